#ifndef HOLDFAST_DEVICES_KEEPER_PROBE_FINDINGS_H_
#define HOLDFAST_DEVICES_KEEPER_PROBE_FINDINGS_H_

// What can be found out of a vhost-user back-end that nobody has described yet,
// and the profile (protos/profile.proto) that follows from it. Pure.

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "devices/keeper/keeper_state.h"

namespace holdfast::keeper {

// What a program is given: a descriptor that is connected, or one that listens,
// or the path at which it is to listen.
enum class Handover { kConnected, kListening, kPath };

// Stand in an argument for the descriptor's number, and for the path.
inline constexpr char kDescriptorMark[] = "{fd}";
inline constexpr char kPathMark[] = "{path}";

// One way to give a program its socket.
struct Candidate {
  std::vector<std::string> arguments;  // One of them holds a mark.
  // As in Profile.SocketArgument; empty: the user has put the mark himself.
  std::string text;
  std::string end_of;
  Handover handover = Handover::kConnected;

  // For people: "'--fd={fd}', connected".
  std::string Name() const;
  // The arguments with the number, or the path, in its mark's place.
  std::vector<std::string> With(int number, absl::string_view path) const;
};

// All that are worth a try, the likeliest first.
std::vector<Candidate> CandidatesFor(absl::Span<const std::string> arguments);

// "type" of what --print-capabilities prints (QEMU, docs/interop/
// vhost-user.json); empty: that is none. `text` may be anything.
std::string TypeIn(absl::string_view text);

struct Findings {
  std::string program;  // Its path.
  std::string type;     // As TypeIn.
  Candidate taken;
  Offer offer = {};
  double start_ms = 0;  // From its start to the end of the handshake.
  // The file of its own that has libvhost-user in it; empty: none has.
  std::string libvhost_user;
  // Ended by itself when its connection was closed.
  bool ends_with_connection = false;
  // From SIGTERM to its end; nothing: it did not end, or was not there any
  // more.
  absl::optional<double> stop_ms;
};

// What is left to a person, one line each; empty: nothing.
std::vector<std::string> Undecided(const Findings& findings);

// The text of the profile. Where something is undecided that a profile cannot
// do without it has a word that no profile may have, so that it is refused
// there.
std::string ProfileText(const Findings& findings);

}  // namespace holdfast::keeper

#endif  // HOLDFAST_DEVICES_KEEPER_PROBE_FINDINGS_H_
