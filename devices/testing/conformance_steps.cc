#include "devices/testing/conformance_steps.h"

#include <fcntl.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/errno_status.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"

namespace holdfast::testing {

absl::StatusOr<std::unique_ptr<ResourceFiles>> ResourceFiles::Make(
    const ConformanceTarget& target) {
  std::unique_ptr<ResourceFiles> files(new ResourceFiles);
  for (const auto& [name, size] : target.resources) {
    const std::string path = files->dir_.File(name);
    const UniqueFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!fd.valid() || ftruncate(fd.get(), static_cast<off_t>(size)) != 0) {
      return ErrnoStatus(absl::StrCat("making ", path));
    }
    files->paths_[name] = path;
  }
  return files;
}

std::vector<std::string> ResourceFiles::Arguments(
    const ConformanceTarget& target) const {
  std::vector<std::string> arguments = target.arguments;
  for (const auto& [name, path] : paths_) {
    arguments.push_back(absl::StrCat("--", name, "=", path));
  }
  return arguments;
}

absl::StatusOr<std::unique_ptr<ServedDevice>> ServedDevice::Start(
    const ConformanceTarget& target,
    const std::vector<std::string>& more_arguments) {
  std::unique_ptr<ServedDevice> device(new ServedDevice(target));
  ASSIGN_OR_RETURN(device->files_, ResourceFiles::Make(target));
  std::vector<std::string> arguments = device->files_->Arguments(target);
  arguments.insert(arguments.end(), more_arguments.begin(),
                   more_arguments.end());
  arguments.push_back("--socket-path=" + device->socket_path());
  ASSIGN_OR_RETURN(device->program_,
                   DeviceProgram::Start(target.program, arguments));
  return device;
}

absl::StatusOr<std::unique_ptr<FrontEnd>> ServedDevice::ConnectOnly(
    const FrontEnd::Options& options) {
  return FrontEnd::Connect(socket_path(), options);
}

absl::StatusOr<std::unique_ptr<FrontEnd>> ServedDevice::Connect(
    const FrontEnd::Options& options) {
  ASSIGN_OR_RETURN(auto vmm, ConnectOnly(options));
  RETURN_IF_ERROR(vmm->Start());
  return vmm;
}

absl::StatusOr<std::unique_ptr<FrontEnd>> ServedDevice::Connect() {
  return Connect(FrontEndOptions(target_));
}

absl::Status ServedDevice::CheckServes() {
  RETURN_IF_ERROR(CheckAlive());
  ASSIGN_OR_RETURN(const auto vmm, Connect());
  return Serves(*vmm, target_);
}

absl::Status ServedDevice::CheckAlive() {
  if (program_->Alive()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const DeviceProgram::Ending ending,
                   program_->Wait(target_.patience));
  return absl::InternalError(absl::StrCat("the device ended with ",
                                          ending.exit_code, " (signal ",
                                          ending.signal, "): ", ending.err));
}

std::string ServedDevice::Kill() {
  const absl::StatusOr<DeviceProgram::Ending> ending =
      program_->Wait(absl::ZeroDuration());
  return std::string(ending.ok() ? ending->err : ending.status().message());
}

FrontEnd::Options FrontEndOptions(const ConformanceTarget& target) {
  FrontEnd::Options options;
  options.patience = target.patience;
  return options;
}

absl::Status Serves(FrontEnd& vmm, const ConformanceTarget& target) {
  ASSIGN_OR_RETURN(const FrontEnd::Answer answer,
                   vmm.Transact(0, target.request));
  if (answer.written == 0) {
    return absl::InternalError("the request was answered with no bytes");
  }
  return CheckDriver(vmm);
}

absl::Status CheckDriver(FrontEnd& vmm) {
  FakeDriver& driver = vmm.driver(0);
  if (!driver.violations().empty()) {
    return absl::InternalError(absl::StrCat(
        "the driver saw: ", absl::StrJoin(driver.violations(), "; ")));
  }
  if (driver.outstanding() != 0) {
    return absl::InternalError(
        absl::StrCat(driver.outstanding(), " requests have no answer"));
  }
  return absl::OkStatus();
}

}  // namespace holdfast::testing
