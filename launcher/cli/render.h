#ifndef HOLDFAST_LAUNCHER_CLI_RENDER_H_
#define HOLDFAST_LAUNCHER_CLI_RENDER_H_

#include <string>

#include "google/protobuf/message.h"
#include "protos/management.pb.h"

namespace holdfast::cli {

// Messages as text for people: lines that end with a newline. Pure. Control
// characters are replaced, so that no text can play with the terminal.

// A table, one instance a line.
std::string RenderList(const v1::ListResponse& list);
// One fact a line; of a state that needs somebody also what to do.
std::string RenderStatus(const v1::InstanceStatus& status);
// The launcher's own processes, and then RenderStatus() of each instance.
std::string RenderEverything(const v1::ListResponse& list);
// What a device has written about itself, as RenderStatus() has it.
std::string RenderFigures(const v1::SegmentFigures& segment);
// The counters that differ, each on a line:
//   queue 0: requests 12 -> 70
std::string RenderFiguresDiff(const v1::SegmentFigures& before,
                              const v1::SegmentFigures& after);
// Why there are none directly before these, of which `lost` is not 0.
std::string LostText(const v1::EventsResponse& events);
// One event a line; the time is UTC.
std::string RenderEvents(const v1::EventsResponse& events);

// Any message as people write it in files.
std::string RenderText(const google::protobuf::Message& message);
// Any message as one line of JSON, with the names of the .proto file and with
// every field.
std::string RenderJson(const google::protobuf::Message& message);

}  // namespace holdfast::cli

#endif  // HOLDFAST_LAUNCHER_CLI_RENDER_H_
