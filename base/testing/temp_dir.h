#ifndef HOLDFAST_BASE_TESTING_TEMP_DIR_H_
#define HOLDFAST_BASE_TESTING_TEMP_DIR_H_

#include <cstdlib>
#include <filesystem>
#include <string>

namespace holdfast::testing {

// A fresh directory with a short name directly under the system's temporary
// directory (Bazel's TEST_TMPDIR is too long for a socket path), removed with
// its content at the end.
class TempDir {
 public:
  TempDir() {
    std::string name =
        (std::filesystem::temp_directory_path() / "hfXXXXXX").string();
    path_ = mkdtemp(name.data());
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  const std::string& path() const { return path_; }
  std::string File(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace holdfast::testing

#endif  // HOLDFAST_BASE_TESTING_TEMP_DIR_H_
