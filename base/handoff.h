#ifndef HOLDFAST_BASE_HANDOFF_H_
#define HOLDFAST_BASE_HANDOFF_H_

// The contract between the launcher and a child: which descriptors a managed
// device process is born with, under which numbers. Everything else (VMM
// socket, guest memory, eventfds, disk images) reaches it through the store.
// The launcher's descriptor plan and the child's start both read this header
// and nothing else of each other.

namespace holdfast {

// 0 is the null device; 1 and 2 go to the launcher's log.
inline constexpr int kHandoffStoreFd = 3;    // SEQPACKET to holdfast-store.
inline constexpr int kHandoffControlFd = 4;  // SEQPACKET to holdfastd.
inline constexpr int kHandoffSegmentFd = 5;  // The instance's segment (memfd).
inline constexpr int kHandoffFilterFd = 6;   // Sealed memfd: steady-state BPF
                                             // program, struct sock_filter[].
inline constexpr int kHandoffEnd = 7;        // First number that is free.

// Set to "1" in the environment of a managed child; absent otherwise: then the
// device runs stand-alone, without recovery.
inline constexpr char kHandoffEnvironment[] = "HOLDFAST_MANAGED";

}  // namespace holdfast

#endif  // HOLDFAST_BASE_HANDOFF_H_
