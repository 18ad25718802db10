/* A plugin of qemu's (interface 1): how often each block of guest code ran between two calls of getppid, and the code.

   Each line of the file named by out= is a count, the block's address, and its instructions in hexadecimal. Debian ships
   no header of the interface; what of it is used here is declared. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct info;
enum { INLINE_ADD = 0, GETPPID = 173 /* of AArch64 */ };

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct qemu_plugin_tb*));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb*, int, void*, uint64_t);
void qemu_plugin_register_vcpu_syscall_cb(plugin_id, void (*)(plugin_id, unsigned, int64_t, uint64_t, uint64_t, uint64_t,
                                                              uint64_t, uint64_t, uint64_t, uint64_t, uint64_t));
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb*);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb*);
struct qemu_plugin_insn* qemu_plugin_tb_get_insn(const struct qemu_plugin_tb*, size_t);
const void* qemu_plugin_insn_data(const struct qemu_plugin_insn*);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

struct block {
  struct block* next;
  uint64_t address, count, before; /* at the first mark */
  size_t length;
  uint32_t code[];
};

static struct block* blocks;
static const char* path;
static int marks;

static void translated(plugin_id id, struct qemu_plugin_tb* tb) {
  size_t length = qemu_plugin_tb_n_insns(tb);
  struct block* block = calloc(1, sizeof *block + length * sizeof block->code[0]);
  if (!block) abort();
  block->address = qemu_plugin_tb_vaddr(tb);
  block->length = length;
  for (size_t i = 0; i < length; i++)
    memcpy(&block->code[i], qemu_plugin_insn_data(qemu_plugin_tb_get_insn(tb, i)), sizeof block->code[0]);
  block->next = blocks; /* the guest has one thread */
  blocks = block;
  qemu_plugin_register_vcpu_tb_exec_inline(tb, INLINE_ADD, &block->count, 1);
}

static void called(plugin_id id, unsigned cpu, int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d,
                   uint64_t e, uint64_t f, uint64_t g, uint64_t h) {
  if (number != GETPPID) return;
  if (!marks++) {
    for (struct block* block = blocks; block; block = block->next) block->before = block->count;
    return;
  }
  FILE* file = marks == 2 ? fopen(path, "w") : NULL;
  if (!file) return;
  for (struct block* block = blocks; block; block = block->next) {
    if (block->count == block->before) continue;
    fprintf(file, "%llu %llx", (unsigned long long)(block->count - block->before), (unsigned long long)block->address);
    for (size_t i = 0; i < block->length; i++) fprintf(file, " %08x", block->code[i]);
    fputc('\n', file);
  }
  fclose(file);
}

__attribute__((visibility("default"))) int qemu_plugin_install(plugin_id id, const struct info* info, int count,
                                                               char** arguments) {
  for (int i = 0; i < count; i++)
    if (!strncmp(arguments[i], "out=", 4)) path = strdup(arguments[i] + 4);
  if (!path) return -1;
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_vcpu_syscall_cb(id, called);
  return 0;
}
