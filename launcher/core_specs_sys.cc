// The part of Core that runs the specs of --spec-dir. Encoded ones it reads
// itself, those in text the api reads for it.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/errno_status.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "launcher/core_sys.h"

namespace holdfast::launcher {
namespace {

// So many may die over the directory: one of its files may be why.
constexpr int kMaxCores = 8;

// The first bytes of a file, one more than any spec may have at most.
absl::StatusOr<std::string> ReadSpecFile(const std::filesystem::path& path) {
  // A FIFO must not keep the core waiting.
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) return ErrnoStatus("open");
  struct stat info = {};
  if (fstat(fd.get(), &info) != 0) return ErrnoStatus("fstat");
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError("is not a regular file");
  }
  std::string text(kMaxSpecText + 1, '\0');
  size_t size = 0;
  while (size < text.size()) {
    const ssize_t got = read(fd.get(), &text[size], text.size() - size);
    if (got < 0) return ErrnoStatus("read");
    if (got == 0) break;
    size += static_cast<size_t>(got);
  }
  text.resize(size);
  return text;
}

}  // namespace

void Core::RunSpecDirectory() {
  if (options_.spec_dir.empty() || custody_.specs_run) return;
  if (start_.cores_before >= kMaxCores) {
    ReportRefused(absl::StrCat("--spec-dir=", options_.spec_dir),
                  absl::StrCat(kMaxCores,
                               " cores died before all of it was run: run the "
                               "rest by hand"));
    return NoteSpecsRun();
  }
  std::error_code error;
  std::vector<std::filesystem::path> paths;
  for (const auto& entry :
       std::filesystem::directory_iterator(options_.spec_dir, error)) {
    paths.push_back(entry.path());
  }
  if (error) {
    ReportRefused(absl::StrCat("--spec-dir=", options_.spec_dir),
                  error.message());
  }
  // By name, so that a failure of one is the same every time.
  std::sort(paths.begin(), paths.end());
  for (const std::filesystem::path& path : paths) {
    absl::Status status;
    if (path.extension() == ".spec") {
      status = RunSpecFile(path);
    } else if (path.extension() == ".textproto") {
      status = AddPendingSpec(path);
    }
    if (!status.ok()) ReportRefused(path.filename().string(), status.message());
  }
  NoteSpecsRun();
}

// A core that dies before this leaves the directory to the next one.
void Core::NoteSpecsRun() {
  if (custody_.specs_run || !pending_specs_.empty()) return;
  custody_.specs_run = true;
  const absl::Status status = SendCustody(start_.parent_channel, custody_);
  if (!status.ok()) LogWarning("specs of --spec-dir: ", status.message());
}

// What the core before has run is there already.
absl::Status Core::RunSpecOnce(LaunchSpec spec) {
  if (start_.cores_before > 0 && FindInstance(spec.name) != nullptr) {
    return absl::OkStatus();
  }
  return RunSpec(std::move(spec));
}

absl::Status Core::RunSpecFile(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string bytes, ReadSpecFile(path));
  ASSIGN_OR_RETURN(LaunchSpec spec,
                   DecodeSpec({reinterpret_cast<const uint8_t*>(bytes.data()),
                               bytes.size()}));
  return RunSpecOnce(std::move(spec));
}

absl::Status Core::AddPendingSpec(const std::string& path) {
  if (options_.api.empty()) {
    return absl::FailedPreconditionError(
        "needs --api to be read: start holdfastd with it");
  }
  ASSIGN_OR_RETURN(std::string text, ReadSpecFile(path));
  return pending_specs_.Add(
      {std::filesystem::path(path).filename().string(), std::move(text)});
}

void Core::HandOutSpec(Answer& answer) {
  if (stopping_) return;
  if (pending_specs_.IsHopeless()) {
    const std::string name = pending_specs_.first().name;
    ReportRefused(name,
                  absl::StrCat("the api died ", PendingSpecs::kMaxHandOuts,
                               " times before it had read it"));
    pending_specs_.Take(name);
    NoteSpecsRun();
  }
  if (!pending_specs_.empty()) answer.file = pending_specs_.HandOut();
}

// Off the list and run in one step: an api that dies before it leaves it to the
// next one, and one that dies after it has nothing run twice.
absl::Status Core::TakeReadSpec(const Request& request) {
  if (!pending_specs_.Take(request.file)) {
    return absl::NotFoundError("this spec is not the next: ask for it");
  }
  absl::Status status = absl::InvalidArgumentError(request.refusal);
  if (request.refusal.empty()) {
    absl::StatusOr<LaunchSpec> spec = DecodeSpec(request.spec);
    status = spec.ok() ? RunSpecOnce(*std::move(spec)) : spec.status();
  }
  if (!status.ok()) ReportRefused(request.file, status.message());
  NoteSpecsRun();
  return absl::OkStatus();
}

void Core::ReportRefused(absl::string_view file, absl::string_view message) {
  ReportOwn("spec-refused", 0, "", RefusalText(file, message));
}

}  // namespace holdfast::launcher
