#include "statestore/inflight.h"

namespace holdfast {

template class BasicInflightTable<SharedAccess>;

}  // namespace holdfast
