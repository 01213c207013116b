#include "launcher/cli/profile.h"

#include <algorithm>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "base/status_macros.h"
#include "launcher/api/text_form.h"

namespace holdfast::cli {
namespace {

constexpr char kSchema[] = "protos/profile.proto";
constexpr char kDefaultPolicy[] = "keeper.policy";
constexpr uint32_t kMaxHangSeconds = 24 * 3600;

// What stands for the socket in the program's arguments.
absl::string_view Placeholder(const v1::Profile& profile) {
  return profile.handover() == v1::Backend::LISTENING_PATH ? "{path}" : "{fd}";
}

using Bits = google::protobuf::RepeatedField<uint32_t>;

absl::Status CheckBits(absl::string_view field, const Bits& bits) {
  for (const uint32_t bit : bits) {
    if (bit < 64) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(field, ": ", bit, " is no number of a bit: use 0 to 63"));
  }
  return absl::OkStatus();
}

absl::Status Check(const v1::Profile& profile) {
  if (profile.summary().empty() || absl::StrContains(profile.summary(), '\n')) {
    return absl::InvalidArgumentError("summary: give one line");
  }
  if (profile.has_socket() &&
      !absl::StrContains(profile.socket().text(), Placeholder(profile))) {
    return absl::InvalidArgumentError(
        absl::StrCat("socket.text: has no ", Placeholder(profile),
                     ", which stands for the socket with this handover"));
  }
  RETURN_IF_ERROR(CheckBits("masked_features", profile.masked_features()));
  RETURN_IF_ERROR(CheckBits("masked_protocol_features",
                            profile.masked_protocol_features()));
  RETURN_IF_ERROR(CheckBits("config_may_differ", profile.config_may_differ()));
  for (const v1::Profile::StandbyRule& rule : profile.standby_rules()) {
    if (rule.argument().empty() || rule.reason().empty()) {
      return absl::InvalidArgumentError(
          "standby_rules: each needs an argument and a reason");
    }
  }
  if (profile.hang_seconds() > kMaxHangSeconds) {
    return absl::InvalidArgumentError(
        absl::StrCat("hang_seconds: ", profile.hang_seconds(),
                     " is more than a day, ", kMaxHangSeconds));
  }
  for (const std::string& what : profile.asynchronous()) {
    if (!what.empty() && profile.synchronous()) continue;
    return absl::InvalidArgumentError(
        "asynchronous: each is a part of an argument, beside synchronous: "
        "true");
  }
  if (absl::StrContains(profile.keeper_policy(), '/')) {
    return absl::InvalidArgumentError(
        "keeper_policy: give the name of a file of policies/, without a path");
  }
  return absl::OkStatus();
}

std::string Quoted(absl::string_view argument) {
  return absl::StrCat("'", argument, "'");
}

bool IsJson(absl::string_view argument) {
  return absl::StartsWith(argument, "{\"") || absl::StartsWith(argument, "{ ");
}

// '{"driver": "file"}' says what "driver=file" does.
bool Says(absl::string_view argument, absl::string_view what) {
  if (!IsJson(argument)) return absl::StrContains(argument, what);
  return absl::StrContains(
      absl::StrReplaceAll(argument, {{"\"", ""}, {" ", ""}, {":", "="}}), what);
}

absl::Status NoDescriptor(const v1::Profile& profile, absl::string_view why) {
  std::string remedy =
      profile.handover() == v1::Backend::LISTENING_PATH
          ? "say where the program takes the path that it listens at"
          : "say where the program takes the number of the socket's descriptor";
  if (profile.has_socket()) {
    absl::StrAppend(&remedy, ", as in ", Quoted(profile.socket().text()));
  }
  return absl::InvalidArgumentError(absl::StrCat(why, ": ", remedy));
}

// Puts the socket where the profile wants it, if the arguments do not say so.
absl::Status NameDescriptor(const v1::Profile& profile,
                            std::vector<std::string>& args) {
  for (const std::string& arg : args) {
    if (absl::StrContains(arg, Placeholder(profile))) return absl::OkStatus();
  }
  const v1::Profile::SocketArgument& socket = profile.socket();
  if (!profile.has_socket()) {
    return NoDescriptor(
        profile, absl::StrCat("no argument holds ", Placeholder(profile)));
  }
  if (socket.end_of().empty()) {
    args.push_back(socket.text());
    return absl::OkStatus();
  }
  std::vector<std::string*> places;
  for (std::string& arg : args) {
    if (Says(arg, socket.end_of())) places.push_back(&arg);
  }
  if (places.size() != 1) {
    return NoDescriptor(
        profile,
        absl::StrCat("no argument holds ", Placeholder(profile), ", and ",
                     places.size(), " hold ", Quoted(socket.end_of())));
  }
  std::string& place = *places.front();
  if (!socket.unless().empty() && Says(place, socket.unless())) {
    return NoDescriptor(profile, absl::StrCat(Quoted(place),
                                              " names a socket of its own: the "
                                              "VMM must not connect to it"));
  }
  if (IsJson(place)) {
    return NoDescriptor(
        profile, absl::StrCat(Quoted(place), " has no ", Placeholder(profile)));
  }
  absl::StrAppend(&place, socket.text());
  return absl::OkStatus();
}

absl::Status CheckStandby(const v1::Profile& profile,
                          const std::vector<std::string>& args) {
  for (const v1::Profile::StandbyRule& rule : profile.standby_rules()) {
    for (const std::string& arg : args) {
      if (!Says(arg, rule.argument())) continue;
      const bool met =
          std::any_of(rule.needs().begin(), rule.needs().end(),
                      [&](const std::string& need) { return Says(arg, need); });
      if (met) continue;
      return absl::InvalidArgumentError(
          absl::StrCat(Quoted(arg), ": ", rule.reason()));
    }
  }
  return absl::OkStatus();
}

bool IsSynchronous(const v1::Profile& profile,
                   const std::vector<std::string>& args) {
  return profile.synchronous() &&
         std::none_of(args.begin(), args.end(), [&](const std::string& arg) {
           return std::any_of(
               profile.asynchronous().begin(), profile.asynchronous().end(),
               [&](const std::string& what) { return Says(arg, what); });
         });
}

const char* TrackingWord(v1::Profile::Tracking tracking) {
  switch (tracking) {
    case v1::Profile::FORCED:
      return "forced";
    case v1::Profile::IN_ORDER:
      return "in-order";
    case v1::Profile::SHADOW:
      return "shadow";
    default:
      return "offered";
  }
}

const char* KickBackWord(v1::Profile::KickBack kick_back) {
  switch (kick_back) {
    case v1::Profile::BLOCK:
      return "block";
    case v1::Profile::SCSI:
      return "scsi";
    default:
      return "nothing";
  }
}

void AddMask(absl::string_view option, const Bits& bits, v1::LaunchSpec& spec) {
  uint64_t mask = 0;
  for (const uint32_t bit : bits) mask |= uint64_t{1} << bit;
  if (mask != 0) spec.add_args(absl::StrCat(option, "=", mask));
}

}  // namespace

absl::StatusOr<v1::Profile> ParseProfile(absl::string_view text,
                                         const std::string& file) {
  v1::Profile profile;
  RETURN_IF_ERROR(launcher::ParseTextForm(text, file, kSchema, profile));
  const absl::Status status = Check(profile);
  if (status.ok()) return profile;
  return absl::Status(status.code(),
                      absl::StrCat(file, ": ", status.message()));
}

absl::StatusOr<v1::LaunchSpec> WrappedSpec(const v1::Profile& profile,
                                           const Wrapping& wrapping) {
  if (!profile.refusal().empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat(wrapping.program, " is not wrapped: ", profile.refusal()));
  }
  std::vector<std::string> args = wrapping.args;
  RETURN_IF_ERROR(NameDescriptor(profile, args));
  const bool standby = profile.standby() && !wrapping.no_standby;
  if (standby) RETURN_IF_ERROR(CheckStandby(profile, args));
  v1::LaunchSpec spec;
  spec.set_name(wrapping.name);
  spec.set_binary(wrapping.keeper);
  spec.set_socket_path(wrapping.socket_path);
  spec.set_policy(absl::StrCat(wrapping.policy_directory, "/",
                               profile.keeper_policy().empty()
                                   ? kDefaultPolicy
                                   : profile.keeper_policy()));
  spec.add_args(absl::StrCat("--tracking=", TrackingWord(profile.tracking())));
  if (profile.kick_back() != v1::Profile::NEVER) {
    spec.add_args(
        absl::StrCat("--kick-back=", KickBackWord(profile.kick_back())));
  }
  AddMask("--mask-features", profile.masked_features(), spec);
  AddMask("--mask-protocol-features", profile.masked_protocol_features(), spec);
  if (profile.transport_reset_queue() != 0) {
    spec.add_args(absl::StrCat("--transport-reset-queue=",
                               profile.transport_reset_queue()));
  }
  if (profile.hang_seconds() != 0) {
    spec.add_args(
        absl::StrCat("--hang-ms=", uint64_t{profile.hang_seconds()} * 1000));
  }
  AddMask("--config-may-differ", profile.config_may_differ(), spec);
  v1::Backend& backend = *spec.mutable_backend();
  backend.set_binary(wrapping.program);
  for (const std::string& arg : args) backend.add_args(arg);
  backend.set_handover(profile.handover());
  backend.set_standby(standby);
  backend.set_polls(profile.polls());
  backend.set_synchronous(IsSynchronous(profile, args));
  return spec;
}

std::string RenderProfiles(const v1::ProfileList& list) {
  int width = 4;
  for (const v1::ProfileList::Entry& entry : list.profiles()) {
    width = std::max(width, static_cast<int>(entry.name().size()));
  }
  std::string text = absl::StrFormat("%-*s  %s\n", width, "NAME", "SUMMARY");
  for (const v1::ProfileList::Entry& entry : list.profiles()) {
    absl::StrAppendFormat(&text, "%-*s  %s\n", width, entry.name(),
                          entry.profile().summary());
  }
  return text;
}

}  // namespace holdfast::cli
