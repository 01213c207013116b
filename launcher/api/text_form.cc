#include "launcher/api/text_form.h"

#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace holdfast::launcher {
namespace {

using ::google::protobuf::TextFormat;

// Lines are counted from 0 by the parser and from 1 by people.
class Collector final : public ::google::protobuf::io::ErrorCollector {
 public:
  Collector(const std::string& file, absl::string_view schema)
      : file_(file), schema_(schema) {}

  void AddError(int line, int column, const std::string& message) override {
    const std::string place =
        line < 0 ? file_ : absl::StrCat(file_, ":", line + 1, ":", column + 1);
    errors_.push_back(absl::StrCat(place, ": ", message, ": see ", schema_));
  }
  std::string Text() const { return absl::StrJoin(errors_, "\n"); }

 private:
  const std::string& file_;
  const absl::string_view schema_;
  std::vector<std::string> errors_;
};

}  // namespace

absl::Status ParseTextForm(absl::string_view text, const std::string& file,
                           absl::string_view schema,
                           google::protobuf::Message& message,
                           TextFormat::ParseInfoTree* places) {
  Collector collector(file, schema);
  TextFormat::Parser parser;
  parser.RecordErrorsTo(&collector);
  if (places != nullptr) parser.WriteLocationsTo(places);
  ::google::protobuf::io::ArrayInputStream input(text.data(),
                                                 static_cast<int>(text.size()));
  if (parser.Parse(&input, &message)) return absl::OkStatus();
  return absl::InvalidArgumentError(collector.Text());
}

}  // namespace holdfast::launcher
