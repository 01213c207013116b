#include "launcher/cli/library.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"
#include "launcher/api/spec_text.h"
#include "launcher/api/translate.h"
#include "launcher/cli/files.h"
#include "launcher/cli/profile.h"
#include "launcher/cli/program_sys.h"
#include "launcher/cli/render.h"
#include "launcher/spec.h"

namespace holdfast::cli {
namespace {

using Verb = Command::Verb;
namespace fs = std::filesystem;

constexpr char kInstalled[] = "/usr/lib/holdfast";
constexpr char kSuffix[] = ".textproto";
// Where a shell without a PATH looks.
constexpr char kUsualPath[] = "/usr/sbin:/usr/bin:/sbin:/bin";

std::string ProfilesOf(const std::string& library) {
  return absl::StrCat(library, "/profiles");
}

// The names of the profiles of LIB, in order; none where there is no LIB.
std::vector<std::string> ProfileNames(const std::string& library) {
  std::vector<std::string> names;
  std::error_code error;
  fs::directory_iterator files(ProfilesOf(library), error);
  for (; !error && files != fs::directory_iterator(); files.increment(error)) {
    if (files->path().extension() == kSuffix) {
      names.push_back(files->path().stem().string());
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

bool IsFile(const std::string& path) {
  std::error_code error;
  return fs::is_regular_file(path, error);
}

bool IsExecutable(const std::string& path) {
  std::error_code error;
  constexpr fs::perms kAny =
      fs::perms::owner_exec | fs::perms::group_exec | fs::perms::others_exec;
  const fs::perms perms = fs::status(path, error).permissions();
  return !error && (perms & kAny) != fs::perms::none;
}

absl::Status Missing(const std::string& path) {
  return absl::NotFoundError(
      absl::StrCat(path, ": is not there: install it, or say --lib-dir=DIR"));
}

// A profile, and its text.
absl::StatusOr<v1::Profile> ReadProfile(const Command& command,
                                        std::string& text) {
  ASSIGN_OR_RETURN(const std::string path,
                   FindProfile(LibraryDirectory(command), command.profile));
  ASSIGN_OR_RETURN(text, ReadFile(path, kMaxProfileFile));
  return ParseProfile(text, path);
}

absl::StatusOr<std::string> ProgramOf(const Command& command) {
  const char* const search = std::getenv("PATH");
  return FindProgram(command.wrapped[0],
                     search == nullptr ? kUsualPath : search);
}

absl::StatusOr<Wrapping> WrappingOf(const Command& command) {
  Wrapping wrapping;
  ASSIGN_OR_RETURN(wrapping.program, ProgramOf(command));
  wrapping.args.assign(command.wrapped.begin() + 1, command.wrapped.end());
  wrapping.no_standby = command.no_standby;
  wrapping.name = command.instance.empty()
                      ? fs::path(wrapping.program).filename().string()
                      : command.instance;
  wrapping.socket_path =
      command.socket_path.empty()
          ? absl::StrCat(command.run_dir, "/", wrapping.name, ".sock")
          : command.socket_path;
  std::error_code error;
  const std::string library =
      fs::absolute(LibraryDirectory(command), error).string();
  wrapping.keeper = absl::StrCat(library, "/holdfast-keeper");
  wrapping.policy_directory = absl::StrCat(library, "/policies");
  if (!IsFile(wrapping.keeper)) return Missing(wrapping.keeper);
  return wrapping;
}

}  // namespace

std::string LibraryDirectory(const Command& command) {
  if (!command.lib_dir.empty()) return command.lib_dir;
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  const std::string beside = program.parent_path().string();
  return error || ProfileNames(beside).empty() ? kInstalled : beside;
}

absl::StatusOr<std::string> FindProfile(const std::string& library,
                                        const std::string& name) {
  if (absl::StrContains(name, '/')) return name;
  std::string path = absl::StrCat(ProfilesOf(library), "/", name, kSuffix);
  if (IsFile(path)) return path;
  const std::vector<std::string> names = ProfileNames(library);
  const std::string remedy =
      names.empty() ? absl::StrCat("there is none in ", ProfilesOf(library),
                                   ": say --lib-dir=DIR")
                    : absl::StrCat("there is ", absl::StrJoin(names, ", "));
  return absl::NotFoundError(
      absl::StrCat("no profile '", name, "': ", remedy,
                   "; one of your own has a / in its path: ./", name));
}

absl::StatusOr<v1::ProfileList> ReadProfiles(const std::string& library) {
  v1::ProfileList list;
  for (const std::string& name : ProfileNames(library)) {
    v1::ProfileList::Entry& entry = *list.add_profiles();
    entry.set_name(name);
    entry.set_path(absl::StrCat(ProfilesOf(library), "/", name, kSuffix));
    ASSIGN_OR_RETURN(const std::string text,
                     ReadFile(entry.path(), kMaxProfileFile));
    ASSIGN_OR_RETURN(*entry.mutable_profile(),
                     ParseProfile(text, entry.path()));
  }
  if (list.profiles_size() > 0) return list;
  return Missing(ProfilesOf(library));
}

absl::StatusOr<std::string> FindProgram(const std::string& program,
                                        const std::string& search) {
  std::vector<std::string> places;
  if (absl::StrContains(program, '/')) {
    std::error_code error;
    places.push_back(fs::absolute(program, error).lexically_normal().string());
  } else {
    for (absl::string_view directory : absl::StrSplit(search, ':')) {
      // The launcher is asked for a path that means the same everywhere.
      if (!absl::StartsWith(directory, "/")) continue;
      places.push_back(absl::StrCat(directory, "/", program));
    }
  }
  std::string forbidden;
  for (const std::string& place : places) {
    if (!IsFile(place)) continue;
    if (IsExecutable(place)) return place;
    if (forbidden.empty()) forbidden = place;
  }
  if (!forbidden.empty()) {
    return absl::PermissionDeniedError(
        absl::StrCat(forbidden, ": is not executable"));
  }
  return absl::NotFoundError(absl::StrCat(
      program, ": no such program",
      absl::StrContains(program, '/')
          ? ""
          : absl::StrCat(" in PATH (", search, "): give its whole path")));
}

absl::StatusOr<v1::LaunchSpec> SpecToRun(const Command& command,
                                         std::string& text) {
  text.clear();
  if (command.profile.empty()) {
    ASSIGN_OR_RETURN(text, ReadFile(command.file, launcher::kMaxSpecFile));
    return launcher::ParseSpecText(text, command.file);
  }
  std::string ignored;
  ASSIGN_OR_RETURN(const v1::Profile profile, ReadProfile(command, ignored));
  ASSIGN_OR_RETURN(const Wrapping wrapping, WrappingOf(command));
  ASSIGN_OR_RETURN(const v1::LaunchSpec proto, WrappedSpec(profile, wrapping));
  ASSIGN_OR_RETURN(const launcher::LaunchSpec spec, launcher::FromProto(proto));
  const absl::Status status = launcher::ValidateSpec(spec);
  if (status.ok()) return proto;
  const bool of_name = absl::StartsWith(status.message(), "name: ");
  return absl::Status(
      status.code(),
      absl::StrCat(status.message(), of_name && command.verb == Verb::kRun
                                         ? ": say --name=NAME"
                                         : ""));
}

absl::Status PrintProfiles(const Command& command, std::ostream& out) {
  if (command.verb == Command::Verb::kProfileList) {
    ASSIGN_OR_RETURN(const v1::ProfileList list,
                     ReadProfiles(LibraryDirectory(command)));
    out << (command.json ? RenderJson(list) : RenderProfiles(list));
    return absl::OkStatus();
  }
  std::string text;
  ASSIGN_OR_RETURN(const v1::Profile profile, ReadProfile(command, text));
  out << (command.json ? RenderJson(profile) : text);
  return absl::OkStatus();
}

absl::Status NewProfile(const Command& command) {
  const std::string probe =
      absl::StrCat(LibraryDirectory(command), "/holdfast-probe");
  if (!IsFile(probe)) return Missing(probe);
  std::vector<std::string> words = {"holdfast-probe"};
  if (!command.file.empty()) {
    words.push_back(absl::StrCat("--output=", command.file));
  }
  words.push_back("--");
  ASSIGN_OR_RETURN(std::string program, ProgramOf(command));
  words.push_back(std::move(program));
  words.insert(words.end(), command.wrapped.begin() + 1, command.wrapped.end());
  return BecomeProgram(probe, words);
}

}  // namespace holdfast::cli
