#include "devices/keeper/probe/findings.h"

#include <algorithm>
#include <cctype>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "devices/vhost_user/message.h"

namespace holdfast::keeper {
namespace {

constexpr char kUndecided[] = "DECIDE";
// QEMU's way to name a device that it exports.
constexpr char kExport[] = "type=vhost-user-";

bool OffersTracking(const Findings& findings) {
  return (findings.offer.protocol_features &
          vhost_user::kProtocolInflightShmfd) != 0;
}

// By their nature: one request after the other, as they come.
bool IsUsuallyInOrder(absl::string_view type) {
  return type == "net" || type == "rng";
}

// In a line of a text form's string, or of a comment.
std::string Plain(absl::string_view text) {
  std::string plain(text);
  std::replace_if(
      plain.begin(), plain.end(),
      [](char c) {
        return std::iscntrl(static_cast<unsigned char>(c)) != 0 || c == '"' ||
               c == '\\' || static_cast<unsigned char>(c) >= 0x80;
      },
      '?');
  return plain;
}

void Comment(std::string& text, absl::string_view line) {
  absl::StrAppend(&text, "# ", Plain(line), "\n");
}

const char* MarkOf(Handover handover) {
  return handover == Handover::kPath ? kPathMark : kDescriptorMark;
}

const char* FieldOf(Handover handover) {
  switch (handover) {
    case Handover::kConnected:
      return "CONNECTED_FD";
    case Handover::kListening:
      return "LISTENING_FD";
    case Handover::kPath:
      break;
  }
  return "LISTENING_PATH";
}

absl::string_view BaseName(absl::string_view path) {
  return path.substr(path.rfind('/') + 1);
}

void AddTracking(const Findings& findings, std::string& text) {
  if (OffersTracking(findings)) {
    Comment(text, "It offers INFLIGHT_SHMFD.");
    absl::StrAppend(&text, "tracking: OFFERED\n");
    return;
  }
  if (!findings.libvhost_user.empty()) {
    Comment(text, absl::StrCat("It does not offer INFLIGHT_SHMFD, but ",
                               findings.libvhost_user, " has libvhost-user"));
    Comment(text, "in it, which tracks whenever the bit is acknowledged.");
    absl::StrAppend(&text, "tracking: FORCED\n");
    return;
  }
  Comment(text, "Decide: it does not offer INFLIGHT_SHMFD. IN_ORDER if it");
  Comment(text, "answers requests in the order in which they come; SHADOW for");
  Comment(text, "one that does not, which costs a wake-up for each request.");
  if (IsUsuallyInOrder(findings.type)) {
    Comment(text, absl::StrCat("A back-end of type ", findings.type,
                               " usually does."));
  }
  absl::StrAppend(&text, "tracking: ", kUndecided, "\n");
}

void AddEnd(const Findings& findings, std::string& text) {
  if (findings.ends_with_connection) {
    Comment(text, "It ended with its connection.");
  } else if (findings.stop_ms.has_value()) {
    Comment(text, absl::StrFormat("SIGTERM ended it after %.0f ms.",
                                  *findings.stop_ms));
  } else {
    Comment(text, "SIGTERM did not end it within two seconds: it is killed.");
  }
}

}  // namespace

std::string Candidate::Name() const {
  const std::string what = text.empty()
                               ? absl::StrCat(MarkOf(handover), " as given")
                               : absl::StrCat("'", text, "'");
  switch (handover) {
    case Handover::kConnected:
      return absl::StrCat(what, ", connected");
    case Handover::kListening:
      return absl::StrCat(what, ", listening");
    case Handover::kPath:
      break;
  }
  return absl::StrCat(what, ", a path");
}

std::vector<std::string> Candidate::With(int number,
                                         absl::string_view path) const {
  std::vector<std::string> all = arguments;
  for (std::string& argument : all) {
    argument = handover == Handover::kPath
                   ? absl::StrReplaceAll(argument, {{kPathMark, path}})
                   : absl::StrReplaceAll(
                         argument, {{kDescriptorMark, absl::StrCat(number)}});
  }
  return all;
}

std::vector<Candidate> CandidatesFor(absl::Span<const std::string> arguments) {
  const std::vector<std::string> all(arguments.begin(), arguments.end());
  for (const std::string& argument : all) {
    if (absl::StrContains(argument, kPathMark)) {
      return {{all, "", "", Handover::kPath}};
    }
    if (!absl::StrContains(argument, kDescriptorMark)) continue;
    return {{all, "", "", Handover::kConnected},
            {all, "", "", Handover::kListening}};
  }
  for (size_t i = 0; i < all.size(); ++i) {
    const size_t at = all[i].find(kExport);
    if (at == std::string::npos) continue;
    Candidate exported = {all, ",addr.type=fd,addr.str={fd}",
                          all[i].substr(at, all[i].find(',', at) - at),
                          Handover::kListening};
    exported.arguments[i] += exported.text;
    return {exported};
  }
  Candidate usual = {all, "--fd={fd}", "", Handover::kConnected};
  usual.arguments.push_back(usual.text);
  Candidate listening = usual;
  listening.handover = Handover::kListening;
  Candidate path = {all, "--socket-path={path}", "", Handover::kPath};
  path.arguments.push_back(path.text);
  return {usual, listening, path};
}

std::string TypeIn(absl::string_view text) {
  constexpr absl::string_view kKey = "\"type\"";
  size_t at = text.find(kKey);
  if (at == absl::string_view::npos) return "";
  text = text.substr(at + kKey.size());
  const auto skip = [&text](absl::string_view characters) {
    text.remove_prefix(
        std::min(text.find_first_not_of(characters), text.size()));
  };
  skip(" \t\r\n");
  if (!absl::StartsWith(text, ":")) return "";
  text.remove_prefix(1);
  skip(" \t\r\n");
  if (!absl::StartsWith(text, "\"")) return "";
  text.remove_prefix(1);
  const absl::string_view type = text.substr(0, text.find('"'));
  const bool good = type.size() < text.size() && type.size() <= 32 &&
                    std::all_of(type.begin(), type.end(), [](char c) {
                      return std::islower(static_cast<unsigned char>(c)) != 0 ||
                             std::isdigit(static_cast<unsigned char>(c)) != 0 ||
                             c == '-';
                    });
  return good ? std::string(type) : "";
}

std::vector<std::string> Undecided(const Findings& findings) {
  std::vector<std::string> lines;
  if (!OffersTracking(findings) && findings.libvhost_user.empty()) {
    lines.push_back("tracking: whether it answers in order");
  }
  lines.push_back("standby: whether two of it may run at a time");
  return lines;
}

std::string ProfileText(const Findings& findings) {
  const Offer& offer = findings.offer;
  std::string text =
      "# proto-file: protos/profile.proto\n"
      "# proto-message: holdfast.v1.Profile\n\n";
  Comment(text, absl::StrCat("Found by holdfast profile new for ",
                             findings.program, "."));
  absl::StrAppendFormat(
      &text, "summary: \"%s%s\"\n\n", Plain(BaseName(findings.program)),
      findings.type.empty() ? "" : absl::StrCat(", ", findings.type));
  Comment(text, absl::StrFormat(
                    "It answered after %.1f ms: %d queues, %d bytes of "
                    "configuration space,",
                    findings.start_ms, offer.queue_count, offer.config_size));
  Comment(text, absl::StrFormat("features %#x, protocol features %#x.",
                                offer.features, offer.protocol_features));
  const Candidate& taken = findings.taken;
  if (taken.text.empty()) {
    Comment(text,
            absl::StrCat(MarkOf(taken.handover),
                         " in the arguments says where its socket goes."));
  } else {
    absl::StrAppend(&text, "socket {\n  text: \"", Plain(taken.text), "\"\n");
    if (!taken.end_of.empty()) {
      absl::StrAppend(&text, "  end_of: \"", Plain(taken.end_of),
                      "\"\n  unless: \"addr.\"\n");
    }
    absl::StrAppend(&text, "}\n");
  }
  absl::StrAppend(&text, "handover: ", FieldOf(taken.handover), "\n");
  AddEnd(findings, text);
  text += "\n";
  AddTracking(findings, text);
  text += "\n";
  Comment(text, "Not found out: whether a second process of it may run ahead,");
  Comment(text,
          "with the same files open. If so, recovery is faster with true.");
  absl::StrAppend(&text, "standby: false\n");
  return text;
}

}  // namespace holdfast::keeper
