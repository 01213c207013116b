#include "devices/virtqueue/split_ring.h"

#include "devices/virtqueue/split_ring_impl.h"

namespace holdfast {

template class BasicSplitRing<SharedAccess>;

}  // namespace holdfast
