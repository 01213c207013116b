#include "launcher/supervisor_text.h"

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace holdfast::launcher {
namespace {

struct ActionPrinter {
  std::string operator()(const SpawnChild& a) const {
    return absl::StrCat("SpawnChild(", a.child, ")");
  }
  std::string operator()(const StopChild& a) const {
    return absl::StrCat("StopChild(", a.child, ")");
  }
  std::string operator()(const KillChild& a) const {
    return absl::StrCat("KillChild(", a.child, ")");
  }
  std::string operator()(const DemoteChild& a) const {
    return absl::StrCat("DemoteChild(", a.child, ")");
  }
  std::string operator()(const HoldPromotion& a) const {
    return absl::StrCat("HoldPromotion(", a.hold ? "hold" : "go", ")");
  }
  std::string operator()(const ArmTimer& a) const {
    return absl::StrCat("ArmTimer(", TimerName(a.timer), " ",
                        absl::FormatDuration(a.delay), ")");
  }
  std::string operator()(const EmitEvent& a) const {
    std::string text = absl::StrCat("Emit(", a.type);
    if (a.child != 0) absl::StrAppend(&text, " ", a.child);
    if (!a.detail.empty()) absl::StrAppend(&text, " ", a.detail);
    return text + ")";
  }
  std::string operator()(const Redeposit& a) const {
    return a.hold ? "Redeposit(hold)" : "Redeposit";
  }
  std::string operator()(const KeepConnection&) const {
    return "KeepConnection";
  }
  std::string operator()(const DropConnection&) const {
    return "DropConnection";
  }
  std::string operator()(const CloseInstance&) const { return "CloseInstance"; }
};

const char* SpareText(const Supervision& state) {
  if (state.spare == 0) return "none";
  return state.spare_ready ? "ready" : "starting";
}

const char* ReplacementText(Replacement replacement) {
  switch (replacement) {
    case Replacement::kNone:
      return "none";
    case Replacement::kDue:
      return "due";
    case Replacement::kDelayed:
      return "delayed";
    case Replacement::kDenied:
      return "denied";
  }
  return "unknown";
}

}  // namespace

std::string ActionText(const Action& action) {
  return std::visit(ActionPrinter(), action);
}

std::string ShapeText(const Supervision& state) {
  const char* active = state.active == 0                ? "none"
                       : state.retiring == state.active ? "retiring"
                                                        : "serving";
  return absl::StrCat(
      StateName(state.state), " active=", active, " spare=", SpareText(state),
      " replacement=", ReplacementText(state.replacement),
      state.served ? " served" : " new", state.store_up ? "" : " no-store");
}

}  // namespace holdfast::launcher
