#include "tests/interop/blkio_api_sys.h"

#include <dlfcn.h>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace holdfast::interop {
namespace {

template <typename Function>
absl::Status Find(void* library, const char* name, Function* function) {
  *function = reinterpret_cast<Function>(dlsym(library, name));
  if (*function != nullptr) return absl::OkStatus();
  return absl::NotFoundError(absl::StrCat("libblkio lacks ", name));
}

}  // namespace

absl::StatusOr<BlkioApi> LoadBlkio(const std::string& path) {
  void* const library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return absl::NotFoundError(dlerror());
  BlkioApi api;
  RETURN_IF_ERROR(Find(library, "blkio_get_error_msg", &api.get_error_msg));
  RETURN_IF_ERROR(Find(library, "blkio_create", &api.create));
  RETURN_IF_ERROR(Find(library, "blkio_destroy", &api.destroy));
  RETURN_IF_ERROR(Find(library, "blkio_connect", &api.connect));
  RETURN_IF_ERROR(Find(library, "blkio_start", &api.start));
  RETURN_IF_ERROR(Find(library, "blkio_get_uint64", &api.get_uint64));
  RETURN_IF_ERROR(Find(library, "blkio_set_int", &api.set_int));
  RETURN_IF_ERROR(Find(library, "blkio_set_str", &api.set_str));
  RETURN_IF_ERROR(
      Find(library, "blkio_alloc_mem_region", &api.alloc_mem_region));
  RETURN_IF_ERROR(Find(library, "blkio_map_mem_region", &api.map_mem_region));
  RETURN_IF_ERROR(Find(library, "blkio_get_queue", &api.get_queue));
  RETURN_IF_ERROR(Find(library, "blkioq_read", &api.q_read));
  RETURN_IF_ERROR(Find(library, "blkioq_write", &api.q_write));
  RETURN_IF_ERROR(Find(library, "blkioq_flush", &api.q_flush));
  RETURN_IF_ERROR(Find(library, "blkioq_do_io", &api.q_do_io));
  return api;
}

}  // namespace holdfast::interop
