"""What a VMM sends to a vfio-user device, written down on its way.

    with Wiretap(device.socket) as tap:
        ... a QEMU on tap.socket ...
        tap.lines
"""

import array
import os
import socket
import struct
import tempfile
import threading

_HEADER = struct.Struct("<HHIII")
_NO_REPLY = 0x10
_MOST_FDS = 64


def describe(command, flags, payload, fds):
    """A message of the VMM as a line, in the words of the goldens of
    devices/vfio_user/."""
    posted = " no_reply" if flags & _NO_REPLY else ""

    def words(layout, at=0):
        return struct.unpack_from(layout, payload, at)

    if command == 1:
        return "VERSION %d.%d %s" % (
            *words("<HH"), payload[4:].rstrip(b"\0").decode())
    if command == 2:
        return "DMA_MAP flags=%d offset=0x%x address=0x%x size=0x%x fds=%d" % (
            *words("<IQQQ", 4), fds)
    if command == 3:
        return "DMA_UNMAP flags=%d address=0x%x size=0x%x" % words("<IQQ", 4)
    if command == 4:
        return "GET_INFO argsz=%d" % words("<I")
    if command in (5, 7):
        name = "GET_REGION_INFO" if command == 5 else "GET_IRQ_INFO"
        return "%s argsz=%d index=%d" % (name, *words("<I"), *words("<I", 8))
    if command == 8:
        return "SET_IRQS flags=0x%x index=%d start=%d count=%d fds=%d" % (
            *words("<IIII", 4), fds)
    if command in (9, 10):
        offset, region, count = words("<QII")
        data = " " + payload[16:].hex() if command == 10 else ""
        name = "REGION_READ" if command == 9 else "REGION_WRITE"
        return "%s region=%d offset=0x%x count=%d%s%s" % (
            name, region, offset, count, data, posted)
    return "RESET" if command == 13 else "command %d" % command


def _receive(end, size, fds):
    data = b""
    while len(data) < size:
        part, control, _, _ = end.recvmsg(
            size - len(data), socket.CMSG_SPACE(4 * _MOST_FDS))
        for _, _, raw in control:
            came = array.array("i")
            came.frombytes(raw[:len(raw) // 4 * 4])
            fds.extend(came)
        if not part:
            return None
        data += part
    return data


class Wiretap:
    """Stands between a VMM, which connects to `socket`, and the device at
    `device`. One connection; descriptors are passed on."""

    def __init__(self, device):
        self._directory = tempfile.TemporaryDirectory(prefix="hftap")
        self.socket = os.path.join(self._directory.name, "tap.sock")
        self._device = device
        self._listener = socket.socket(socket.AF_UNIX)
        self._ends = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.lines = []

    def __enter__(self):
        self._listener.bind(self.socket)
        self._listener.listen(1)
        self._thread.start()
        return self

    def __exit__(self, *_):
        for end in [self._listener, *self._ends]:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self._thread.join()
        for end in [self._listener, *self._ends]:
            end.close()
        self._directory.cleanup()

    def _serve(self):
        try:
            vmm, _ = self._listener.accept()
        except OSError:
            return
        device = socket.socket(socket.AF_UNIX)
        device.connect(self._device)
        self._ends = [vmm, device]
        back = threading.Thread(
            target=self._pass_on, args=(device, vmm, False), daemon=True)
        back.start()
        self._pass_on(vmm, device, True)
        back.join()

    def _pass_on(self, source, target, writes_down):
        try:
            while True:
                fds = []
                header = _receive(source, _HEADER.size, fds)
                if header is None:
                    break
                _, command, size, flags, _ = _HEADER.unpack(header)
                payload = _receive(source, size - _HEADER.size, fds)
                if writes_down and flags & 0xf == 0:
                    self.lines.append(
                        describe(command, flags, payload, len(fds)))
                target.sendmsg(
                    [header + payload],
                    [(socket.SOL_SOCKET, socket.SCM_RIGHTS,
                      array.array("i", fds))] if fds else [])
                for fd in fds:
                    os.close(fd)
        except OSError:
            pass
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
