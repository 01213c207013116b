#ifndef HOLDFAST_DEVICES_BUS_TXN_H_
#define HOLDFAST_DEVICES_BUS_TXN_H_

#include <cstddef>
#include <type_traits>

#include "devices/bus/request.h"
#include "statestore/cell.h"
#include "statestore/transaction.h"

namespace holdfast {

// What one request does to the device: changes of state and the request's
// completion. The framework opens it before OnRequest and commits it when that
// returns OK: state and completion become true together or not at all, at
// whatever instruction the process dies. Belongs to the calling thread; valid
// until OnRequest returns.
class Txn {
 public:
  explicit Txn(StateTxn& state) : state_(state) {}
  Txn(const Txn&) = delete;
  Txn& operator=(const Txn&) = delete;

  // The value of a state field, with the changes of this transaction.
  template <typename T>
  T Get(const Cell<T>& cell) {
    return state_.Get(cell);
  }

  // Changes a state field.
  template <typename T>
  void Set(const Cell<T>& cell, const std::common_type_t<T>& value) {
    state_.Set(cell, value);
  }

  // Gives the request back to the driver, `written` bytes of its
  // device-writable part being new. Once a request; a request for which
  // OnRequest does not call it is completed with nothing written.
  void Complete(Request& request, size_t written) {
    written_ =
        written < request.writable_size() ? written : request.writable_size();
  }

  // For the framework: what Complete said.
  size_t written() const { return written_; }

 private:
  StateTxn& state_;
  size_t written_ = 0;
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_BUS_TXN_H_
