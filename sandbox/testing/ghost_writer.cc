// Writes to memory that others share for as long as it lives, with threads, a
// child and the kernel's AIO, whatever it is given. Its arguments: "aio", or
// nothing. Descriptors: 3 the memory, 4 a file, of the same size.
//
// The first byte of the memory says what it does: 'a' AIO, 't' threads alone.

#include <linux/aio_abi.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

namespace {

constexpr int kMemoryFd = 3;
constexpr int kFileFd = 4;
constexpr size_t kPage = 4096;
constexpr size_t kPiece = size_t{1} << 20;

[[noreturn]] void WriteForEver(volatile uint8_t* memory, size_t size) {
  for (uint8_t value = 1;; value = static_cast<uint8_t>(value % 255 + 1)) {
    for (size_t at = kPage; at < size; at += kPage) memory[at] = value;
  }
}

// Keeps as much of the file on its way into the memory as there is.
[[noreturn]] void ReadForEver(aio_context_t context, uint8_t* memory,
                              size_t size) {
  std::vector<iocb> blocks(size / kPiece - 1);
  for (size_t i = 0; i < blocks.size(); ++i) {
    blocks[i] = {};
    blocks[i].aio_lio_opcode = IOCB_CMD_PREAD;
    blocks[i].aio_fildes = kFileFd;
    blocks[i].aio_buf = reinterpret_cast<uint64_t>(memory) + kPiece * (i + 1);
    blocks[i].aio_nbytes = kPiece;
    blocks[i].aio_offset = static_cast<int64_t>(kPiece * (i + 1));
    iocb* one = &blocks[i];
    if (syscall(SYS_io_submit, context, 1, &one) != 1) _exit(2);
  }
  memory[0] = 'a';
  for (;;) {
    io_event event;
    if (syscall(SYS_io_getevents, context, 1, 1, &event, nullptr) != 1)
      continue;
    auto* again = reinterpret_cast<iocb*>(event.obj);
    if (event.res < 0 || syscall(SYS_io_submit, context, 1, &again) != 1) {
      _exit(3);
    }
  }
}

}  // namespace

int main(int argc, char**) {
  struct stat info;
  if (fstat(kMemoryFd, &info) != 0) return 1;
  const auto size = static_cast<size_t>(info.st_size);
  void* const mapped =
      mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, kMemoryFd, 0);
  if (mapped == MAP_FAILED) return 1;
  auto* const memory = static_cast<uint8_t*>(mapped);
  aio_context_t context = 0;
  if (argc > 1 && syscall(SYS_io_setup, size / kPiece, &context) == 0) {
    ReadForEver(context, memory, size);
  }
  if (fork() == 0) WriteForEver(memory, size);
  std::thread(WriteForEver, memory, size).detach();
  std::thread(WriteForEver, memory, size).detach();
  memory[0] = 't';
  WriteForEver(memory, size);
}
