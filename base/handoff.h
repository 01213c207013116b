#ifndef HOLDFAST_BASE_HANDOFF_H_
#define HOLDFAST_BASE_HANDOFF_H_

// The contract between the launcher and a child: which descriptors a managed
// device process is born with, under which numbers. Everything else (VMM
// socket, guest memory, eventfds, disk images) reaches it through the store.
// The launcher's descriptor plan and the child's start both read this header
// and nothing else of each other.

#include <cstdint>

namespace holdfast {

// 0 is the null device; 1 and 2 go to the launcher's log.
inline constexpr int kHandoffStoreFd = 3;    // SEQPACKET to holdfast-store.
inline constexpr int kHandoffControlFd = 4;  // SEQPACKET to holdfastd.
inline constexpr int kHandoffSegmentFd = 5;  // The instance's segment (memfd).
inline constexpr int kHandoffFilterFd = 6;   // Sealed memfd: steady-state BPF
                                             // program, struct sock_filter[].
inline constexpr int kHandoffEnd = 7;        // First number that is free.

// The control channel between launcher and child carries these. Fixed size,
// host byte order, SOCK_SEQPACKET.
struct ControlMessage {
  enum class Type : uint32_t {
    // Launcher -> child; 1 descriptor: a new store channel. The store died and
    // was started again: the child deposits every slot it holds once more. It
    // replaces the channel at kHandoffStoreFd.
    kStoreChannel = 1,
    // Launcher -> child: finish what is in flight, then exit with status 0.
    kStop = 2,
    // Launcher -> child: a resource may have changed (a disk has grown).
    kResourceChanged = 3,
  };
  uint32_t version = 1;
  Type type{};
};

// Set to "1" in the environment of a managed child; absent otherwise: then the
// device runs stand-alone, without recovery.
inline constexpr char kHandoffEnvironment[] = "HOLDFAST_MANAGED";

}  // namespace holdfast

#endif  // HOLDFAST_BASE_HANDOFF_H_
