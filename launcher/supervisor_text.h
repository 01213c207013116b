#ifndef HOLDFAST_LAUNCHER_SUPERVISOR_TEXT_H_
#define HOLDFAST_LAUNCHER_SUPERVISOR_TEXT_H_

#include <string>

#include "launcher/supervisor.h"

namespace holdfast::launcher {

// One action in one line, "SpawnChild(3)": for logs at the lowest level, tests
// and the table in launcher/golden/. Pure.
std::string ActionText(const Action& action);

// The part of a state that decides: "RUNNING active=serving spare=ready
// replacement=none served". Left out: child numbers, times, and the VMM, on
// which nothing depends but the two events about it. Pure.
std::string ShapeText(const Supervision& state);

}  // namespace holdfast::launcher

#endif  // HOLDFAST_LAUNCHER_SUPERVISOR_TEXT_H_
