/* The network's calls by TVM's runtime, through the C interface of TVM FFI. */
#define _POSIX_C_SOURCE 200112L
#include "kit_program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tvm/ffi/c_api.h>

struct port { int rank; int64_t shape[@most_dimensions@]; /* -1: the batch */ DLDataType dtype; };
static const struct port ports[TENSORS] = {@ports@};

static TVMFFIAny network, entry; /* a virtual machine, and its function */

static TVMFFIAny text(const char* value) { return (TVMFFIAny){.type_index = kTVMFFIRawStr, .v_c_str = value}; }
static TVMFFIAny number(int64_t value) { return (TVMFFIAny){.type_index = kTVMFFIInt, .v_int64 = value}; }

/* Says on stderr what went wrong: `what`, and the error that TVM FFI holds, if any. */
static int failed(const char* what) {
  TVMFFIObjectHandle error = NULL;
  TVMFFIErrorMoveFromRaised(&error);
  const TVMFFIErrorCell* cell = error ? (const TVMFFIErrorCell*)((const char*)error + sizeof(TVMFFIObject)) : NULL;
  fprintf(stderr, "%s%s%.*s\n", what, cell ? ": " : "", cell ? (int)cell->message.size : 0, cell ? cell->message.data : "");
  if (error) TVMFFIObjectDecRef(error);
  return -1;
}

static void release(TVMFFIAny* value) {
  if (value->type_index >= kTVMFFIStaticObjectBegin) TVMFFIObjectDecRef(value->v_obj);
  *value = (TVMFFIAny){0};
}

static int call_global(const char* name, TVMFFIAny* arguments, int count, TVMFFIAny* result) {
  TVMFFIObjectHandle function = NULL;
  const TVMFFIByteArray key = {name, strlen(name)};
  if (TVMFFIFunctionGetGlobal(&key, &function) || !function) return failed("TVM's runtime lacks a function");
  int status = TVMFFIFunctionCall(function, arguments, count, result);
  TVMFFIObjectDecRef(function);
  return status ? failed(name) : 0;
}

static int method_of(TVMFFIAny module, const char* name, TVMFFIAny* function) {
  TVMFFIAny asked[] = {module, text(name), {.type_index = kTVMFFIBool, .v_int64 = 1}};
  if (call_global("ffi.ModuleGetFunction", asked, 3, function)) return -1;
  return function->type_index == kTVMFFIFunction ? 0 : failed("the network's file lacks a function");
}

static int call_method(TVMFFIAny module, const char* name, TVMFFIAny* arguments, int count, TVMFFIAny* result) {
  TVMFFIAny function = {0};
  if (method_of(module, name, &function)) return -1;
  int status = TVMFFIFunctionCall(function.v_obj, arguments, count, result);
  release(&function);
  return status ? failed(name) : 0;
}

int open_network(int threads) {
  char cores[16];
  snprintf(cores, sizeof cores, "%d", threads);
  setenv("TVM_NUM_THREADS", cores, 1);
  setenv("TVM_BIND_THREADS", "0", 0);
  TVMFFIAny file[] = {text("./@name@.so"), text("so")}, module = {0}, nothing = {0};
  if (call_global("ffi.Module.load_from_file.so", file, 2, &module)) return failed("run this in the folder of the kit");
  int status = call_method(module, "vm_load_executable", NULL, 0, &network);
  release(&module);
  /* A CPU for everything, pooled memory; and again, for what is computed of shapes. */
  TVMFFIAny places[] = {number(kDLCPU), number(0), number(2), number(kDLCPU), number(0), number(2)};
  if (status || call_method(network, "vm_initialization", places, 6, &nothing)) return -1;
  return method_of(network, "main", &entry);
}

static void free_view(DLManagedTensor* view) { free(view); }

/* A tensor of TVM's on the caller's memory. */
static int view_of(const struct port* port, long batch, char* memory, TVMFFIAny* tensor) {
  struct view { DLManagedTensor face; int64_t numbers[2 * @most_dimensions@]; }* view = calloc(1, sizeof *view);
  if (!view) return failed("no memory");
  int64_t *shape = view->numbers, *strides = shape + port->rank, stride = 1;
  for (int i = port->rank; i-- > 0; stride *= shape[i]) {
    shape[i] = port->shape[i] < 0 ? batch : port->shape[i];
    strides[i] = stride;
  }
  view->face.dl_tensor = (DLTensor){memory, {kDLCPU, 0}, port->rank, port->dtype, shape, strides, 0};
  view->face.deleter = free_view;
  TVMFFIObjectHandle made = NULL;
  if (TVMFFITensorFromDLPack(&view->face, ALIGNMENT, 1, &made)) {
    free(view);
    return failed("an input cannot be used");
  }
  *tensor = (TVMFFIAny){.type_index = kTVMFFITensor, .v_obj = made};
  return 0;
}

static int copy_output(const struct port* port, long batch, TVMFFIAny from, char* to) {
  if (from.type_index != kTVMFFITensor) return failed("an output is no tensor");
  const DLTensor* tensor = (const DLTensor*)((const char*)from.v_obj + sizeof(TVMFFIObject));
  size_t count = 1;
  int same = tensor->ndim == port->rank && tensor->dtype.code == port->dtype.code &&
             tensor->dtype.bits == port->dtype.bits && tensor->dtype.lanes == 1;
  for (int i = 0; same && i < port->rank; i++) {
    same = tensor->shape[i] == (port->shape[i] < 0 ? batch : port->shape[i]);
    count *= (size_t)tensor->shape[i];
  }
  if (!same) return failed("an output has another shape or dtype");
  memcpy(to, (const char*)tensor->data + tensor->byte_offset, count * (port->dtype.bits / 8u));
  return 0;
}

int call_network(long batch, char** tensors) {
  TVMFFIAny inputs[INPUTS + 1] = {0}, result = {0};
  int status = 0;
  for (int i = 0; i < INPUTS && !status; i++) status = view_of(&ports[i], batch, tensors[i], &inputs[i]);
  if (!status && TVMFFIFunctionCall(entry.v_obj, inputs, INPUTS, &result)) status = failed("the network cannot run");
  for (int i = 0; i < INPUTS; i++) release(&inputs[i]);
  for (int i = 0; i < OUTPUTS && !status; i++) {
    TVMFFIAny item[] = {result, number(i)}, output = {0};
    if (OUTPUTS > 1 && (status = call_global("ffi.ArrayGetItem", item, 2, &output))) break;
    status = copy_output(&ports[INPUTS + i], batch, OUTPUTS > 1 ? output : result, tensors[INPUTS + i]);
    release(&output);
  }
  release(&result);
  return status;
}

void close_network(void) {
  release(&entry);
  release(&network);
}
