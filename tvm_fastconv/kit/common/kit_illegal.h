/* What becomes of the program where the processor lacks an instruction of the network's. C and C++. */
#ifndef KIT_ILLEGAL_H
#define KIT_ILLEGAL_H

#include <signal.h>
#include <unistd.h>

static inline void say_illegal(int number) {
  static const char told[] = "this is not the processor that @name@ was compiled for, @target@: it lacks an instruction\n";
  (void)number;
  if (write(2, told, sizeof told - 1)) {}
  _exit(2);
}

#endif
