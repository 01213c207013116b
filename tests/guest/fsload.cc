// fsload: writes, syncs, renames and reads back files, and verifies every block
// of them: the guest's load on a mounted file system.
//
//   FS-FINDING <text>
//   FS-RESULT <json>         the last line
// Exit status 0: nothing was wrong; 1: something was; 2: could not run. SIGTERM
// ends it.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "base/errno_status.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "tests/load/block_stamp.h"
#include "tests/load/load_program_sys.h"

ABSL_FLAG(std::string, directory, "", "on the file system, empty");
ABSL_FLAG(uint32_t, files, 48, "how many files there are");

namespace holdfast::guest {
namespace {

// Blocks of a file are numbered from here, so that a block of another file is
// recognised as misplaced.
constexpr uint64_t kBlocksPerFile = 1 << 20;

// A page-aligned buffer for O_DIRECT.
class Buffer {
 public:
  explicit Buffer(size_t size)
      : bytes_(
            static_cast<uint8_t*>(std::aligned_alloc(load::kBlockSize, size))),
        size_(size) {}
  absl::Span<uint8_t> span() { return {bytes_.get(), size_}; }

 private:
  struct Free {
    void operator()(uint8_t* memory) const { std::free(memory); }
  };
  std::unique_ptr<uint8_t, Free> bytes_;
  size_t size_;
};

// The files and what each must hold. Every write replaces a whole file in the
// way that survives a crash: write another, sync it, rename it, sync the
// directory.
class FileLoad {
 public:
  FileLoad(std::string directory, uint32_t files, uint32_t max_blocks)
      : directory_(std::move(directory)),
        max_blocks_(max_blocks),
        run_(static_cast<uint64_t>(std::time(nullptr))),
        random_(run_),
        files_(files),
        buffer_(max_blocks * load::kBlockSize) {}

  void Step() {
    const uint32_t file = random_() % files_.size();
    if (random_() % 2 == 0 || files_[file].blocks == 0) {
      Count(Write(file), "write", file);
    } else {
      Count(Check(file), "read", file);
    }
  }

  void CheckAll() {
    for (uint32_t file = 0; file < files_.size(); ++file) {
      if (files_[file].blocks != 0) Count(Check(file), "read", file);
    }
  }

  bool clean() const { return errors_ == 0; }
  std::string Json() const {
    return absl::StrCat("{\"clean\":", clean() ? "true" : "false",
                        ",\"operations\":", operations_,
                        ",\"checked_blocks\":", checked_,
                        ",\"errors\":", errors_, "}");
  }

 private:
  struct File {
    uint64_t generation = 0;
    uint32_t blocks = 0;
  };

  std::string Path(uint32_t file, absl::string_view suffix) const {
    return absl::StrCat(directory_, "/file-", file, suffix);
  }

  void Count(const absl::Status& status, absl::string_view what,
             uint32_t file) {
    ++operations_;
    if (status.ok()) return;
    if (errors_++ < 16) {
      std::printf("FS-FINDING %s\n",
                  absl::StrCat(what, " of file ", file, ": ", status.ToString())
                      .c_str());
    }
  }

  absl::Status Write(uint32_t file) {
    const File next = {files_[file].generation + 1,
                       static_cast<uint32_t>(random_() % max_blocks_ + 1)};
    absl::Span<uint8_t> data =
        buffer_.span().subspan(0, next.blocks * load::kBlockSize);
    for (uint32_t i = 0; i < next.blocks; ++i) {
      load::StampBlock({run_, file * kBlocksPerFile + i, next.generation},
                       data.subspan(i * load::kBlockSize, load::kBlockSize));
    }
    const std::string path = Path(file, ".new");
    UniqueFd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600));
    if (!fd.valid()) return ErrnoStatus("open");
    if (write(fd.get(), data.data(), data.size()) !=
        static_cast<ssize_t>(data.size())) {
      return ErrnoStatus("write");
    }
    if (fsync(fd.get()) != 0) return ErrnoStatus("fsync");
    if (rename(path.c_str(), Path(file, "").c_str()) != 0) {
      return ErrnoStatus("rename");
    }
    UniqueFd directory(open(directory_.c_str(), O_RDONLY | O_DIRECTORY));
    if (!directory.valid() || fsync(directory.get()) != 0) {
      return ErrnoStatus("fsync of the directory");
    }
    files_[file] = next;
    return absl::OkStatus();
  }

  // Reads past the page cache: what the device holds, not what was written.
  absl::Status Check(uint32_t file) {
    UniqueFd fd(open(Path(file, "").c_str(), O_RDONLY | O_DIRECT));
    if (!fd.valid()) return ErrnoStatus("open");
    struct stat stat;
    if (fstat(fd.get(), &stat) != 0) return ErrnoStatus("fstat");
    const size_t size = files_[file].blocks * load::kBlockSize;
    if (static_cast<size_t>(stat.st_size) != size) {
      return absl::DataLossError(
          absl::StrCat(stat.st_size, " bytes long, must be ", size));
    }
    absl::Span<uint8_t> data = buffer_.span().subspan(0, size);
    std::fill(data.begin(), data.end(), 0);
    if (read(fd.get(), data.data(), size) != static_cast<ssize_t>(size)) {
      return ErrnoStatus("read");
    }
    return CheckBlocks(file, data);
  }

  absl::Status CheckBlocks(uint32_t file, absl::Span<const uint8_t> data) {
    for (uint32_t i = 0; i < files_[file].blocks; ++i) {
      ++checked_;
      const load::BlockVerdict verdict = load::CheckBlock(
          {run_, file * kBlocksPerFile + i, files_[file].generation},
          data.subspan(i * load::kBlockSize, load::kBlockSize));
      if (verdict != load::BlockVerdict::kIntact) {
        return absl::DataLossError(
            absl::StrCat("block ", i, " is ", load::VerdictName(verdict)));
      }
    }
    return absl::OkStatus();
  }

  const std::string directory_;
  const uint32_t max_blocks_;
  const uint64_t run_;
  std::mt19937_64 random_;
  std::vector<File> files_;
  Buffer buffer_;
  uint64_t operations_ = 0;
  uint64_t checked_ = 0;
  uint64_t errors_ = 0;
};

int Main() {
  const uint32_t max_blocks = load::MaxRequestBytes() / load::kBlockSize;
  if (absl::GetFlag(FLAGS_directory).empty() || max_blocks == 0 ||
      absl::GetFlag(FLAGS_files) == 0) {
    std::fprintf(stderr,
                 "fsload: needs --directory, --files, --max_kib >= 4\n");
    return 2;
  }
  FileLoad files(absl::GetFlag(FLAGS_directory), absl::GetFlag(FLAGS_files),
                 max_blocks);
  const double end = load::MonotonicSeconds() + absl::GetFlag(FLAGS_seconds);
  while (!load::StopRequested() && load::MonotonicSeconds() < end) {
    files.Step();
  }
  files.CheckAll();
  std::printf("FS-RESULT %s\n", files.Json().c_str());
  return files.clean() ? 0 : 1;
}

}  // namespace
}  // namespace holdfast::guest

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  holdfast::load::StopOnSigterm();
  return holdfast::guest::Main();
}
