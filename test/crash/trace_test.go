//go:build linux

package crash

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/apiauth/apiauth/test/peers"
)

// call is a system call at its entry, with the process stopped before it.
type call struct {
	nr    uint64
	args  [6]uint64
	index int    // of all system calls of the process, from 1
	wrote int    // of those that writes knows, from 1; 0 for others
	path  string // what the first argument is, for calls on a descriptor that writes knows
}

func (c call) name() string {
	if n, ok := writes()[c.nr]; ok {
		return n
	}
	return strconv.FormatUint(c.nr, 10)
}

// writes are the system calls that change something outside of the process,
// with those that prepare it.
func writes() map[uint64]string {
	return map[uint64]string{
		unix.SYS_WRITE: "write", unix.SYS_PWRITE64: "pwrite64", unix.SYS_WRITEV: "writev", unix.SYS_PWRITEV: "pwritev",
		unix.SYS_FSYNC: "fsync", unix.SYS_FDATASYNC: "fdatasync", unix.SYS_FALLOCATE: "fallocate",
		unix.SYS_FTRUNCATE: "ftruncate", unix.SYS_TRUNCATE: "truncate", unix.SYS_OPENAT: "openat",
		unix.SYS_RENAMEAT: "renameat", unix.SYS_RENAMEAT2: "renameat2", unix.SYS_UNLINKAT: "unlinkat",
		unix.SYS_MKDIRAT: "mkdirat", unix.SYS_LINKAT: "linkat", unix.SYS_FCHMODAT: "fchmodat", unix.SYS_FLOCK: "flock",
		unix.SYS_SOCKET: "socket", unix.SYS_CONNECT: "connect", unix.SYS_SENDTO: "sendto", unix.SYS_SENDMSG: "sendmsg",
		unix.SYS_READ: "read", unix.SYS_RECVMSG: "recvmsg", // what is read decides what is written
		unix.SYS_CLOSE: "close", unix.SYS_EXIT_GROUP: "exit_group",
	}
}

// tracing says what to do with a traced process.
type tracing struct {
	port     int      // of the issuer: what is written to it counts as sent
	stdout   *os.File // instead of taking down what is printed
	noStdout bool     // descriptor 1 is closed
	signals  bool     // only signals and the end are of interest, not system calls
	// enter is called before each system call; true kills the process there,
	// and the call is not carried out.
	enter func(pid int, c call) (kill bool)
	// leave is called after each system call that writes knows.
	leave func(c call, ret int64)
	// line is called for each line on stderr.
	line func(text string)
	// signal is called when a signal is about to be delivered.
	signal func(sig syscall.Signal)
}

// traced is how a traced process ended.
type traced struct {
	result
	pid     int
	calls   int  // system calls
	wrote   int  // of those, writing ones
	last    call // where it was killed
	sends   int  // token requests that have left, or may have
	seals   int  // answers whose sync in the write-ahead file has returned
	peak    int  // KiB of memory at most, VmHWM
	elapsed time.Duration
}

// inWindow reports whether the process ended between sending a request and the
// return of the sync that makes its answer durable.
func (x traced) inWindow() bool { return x.sends > x.seals }

// trace runs apiauth under the tracer. All of it happens on a thread that ends
// with it: ptrace knows threads, not processes.
func (h *home) trace(tr tracing, args ...string) traced {
	h.t.Helper()
	type outcome struct {
		x   traced
		err error
	}
	done := make(chan outcome)
	go func() {
		runtime.LockOSThread() // and never unlocked
		x, err := h.tracer(tr, args)
		done <- outcome{x, err}
	}()
	o := <-done
	if errors.Is(o.err, unix.EPERM) {
		peers.Missing(h.t, "ptrace", "run the tests where a process may trace its children")
	}
	if o.err != nil {
		h.t.Errorf("trace apiauth %s: %v", strings.Join(args, " "), o.err)
	}
	return o.x
}

// canTrace leaves a test out where nothing can be traced.
func canTrace(t testing.TB, h *home) {
	t.Helper()
	if x := h.trace(tracing{}, "version"); x.code != 0 || x.calls == 0 {
		t.Fatalf("a traced process: %s", x.redacted())
	}
}

// syscallInfo is struct ptrace_syscall_info: the kind of stop, and behind the
// number either the arguments or what came back.
type syscallInfo struct {
	op   uint8
	_    [3]uint8
	arch uint32
	ip   uint64
	sp   uint64
	nr   uint64 // or the returned value
	args [6]uint64
	_    uint64
}

const (
	ptraceGetSyscallInfo = 0x420e
	stopEntry            = 1
	stopExit             = 2
	optionExitKill       = 0x100000
)

func (h *home) tracer(tr tracing, args []string) (x traced, err error) {
	begin := time.Now()
	x.args, x.code = args, -1
	outR, outW, err := os.Pipe()
	if err != nil {
		return x, err
	}
	errR, errW, err := os.Pipe()
	if err != nil {
		return x, err
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return x, err
	}
	defer func() { _ = null.Close() }()
	stdout := outW
	if tr.stdout != nil {
		stdout = tr.stdout
	}
	fds := []uintptr{null.Fd(), stdout.Fd(), errW.Fd()}
	if tr.noStdout {
		fds[1] = ^uintptr(0)
	}
	pid, err := syscall.ForkExec(binaryPath(), append([]string{"apiauth"}, args...), &syscall.ProcAttr{
		Dir: h.dir, Env: h.env(),
		Files: fds,
		Sys:   &syscall.SysProcAttr{Ptrace: true, Setpgid: true},
	})
	_ = outW.Close()
	_ = errW.Close()
	if err != nil {
		_, _ = outR.Close(), errR.Close()
		return x, err
	}
	var said, printed bytes.Buffer
	var reading sync.WaitGroup
	reading.Go(func() { _, _ = io.Copy(&printed, io.LimitReader(outR, 16<<20)); _ = outR.Close() })
	reading.Go(func() {
		defer func() { _ = errR.Close() }()
		lines := bufio.NewScanner(io.TeeReader(io.LimitReader(errR, 16<<20), &said))
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			if tr.line != nil {
				tr.line(lines.Text())
			}
		}
		_, _ = io.Copy(&said, io.LimitReader(errR, 16<<20)) // a line that is too long for anybody
	})
	x.pid = pid
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	stop := context.AfterFunc(ctx, func() { _ = unix.Kill(pid, unix.SIGKILL) })
	ws, err := h.follow(tr, &x)
	timedOut := ctx.Err() != nil
	stop()
	cancel()
	reading.Wait()
	x.out, x.err, x.elapsed = printed.String(), said.String(), time.Since(begin)
	if err != nil {
		return x, err
	}
	x.code = code(ws)
	if timedOut {
		return x, fmt.Errorf("it did not end within %v: %s", patience, x.redacted())
	}
	return x, nil
}

// follow carries a process from its first stop to its end.
func (h *home) follow(tr tracing, x *traced) (syscall.WaitStatus, error) {
	pid := x.pid
	resume := func(tid, sig int) {
		request := unix.PTRACE_SYSCALL
		if tr.signals {
			request = unix.PTRACE_CONT
		}
		// A process that was killed meanwhile is no failure: its end comes.
		_, _, _ = unix.Syscall6(unix.SYS_PTRACE, uintptr(request), uintptr(tid), 0, uintptr(sig), 0, 0)
	}
	var ws syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &ws, unix.WALL, nil); err != nil {
		return ws, err
	}
	if !ws.Stopped() {
		return ws, fmt.Errorf("the process ended before it began: %v", ws)
	}
	if err := unix.PtraceSetOptions(pid, unix.PTRACE_O_TRACESYSGOOD|unix.PTRACE_O_TRACECLONE|unix.PTRACE_O_TRACEEXIT|optionExitKill); err != nil {
		_ = unix.Kill(pid, unix.SIGKILL)
		return ws, err
	}
	resume(pid, 0)

	kinds := writes()
	threads := map[int]bool{pid: true} // whose first stop has been seen
	inside := map[int]call{}           // per thread, the call that it is in
	toIssuer := map[uint64]bool{}      // descriptors
	answer := false                    // an answer was written to the write-ahead file and not yet synced
	for {
		// Its process group, for this thread may have other children.
		tid, err := syscall.Wait4(-pid, &ws, unix.WALL|unix.WNOTHREAD, nil)
		if err == unix.EINTR { //nolint:errorlint // an errno as it comes
			continue
		}
		if err != nil {
			return ws, err
		}
		if ws.Exited() || ws.Signaled() {
			if tid == pid { // reported when all of its threads are gone
				for _, c := range inside {
					if c.nr == unix.SYS_WRITE && toIssuer[c.args[0]] {
						x.sends++ // killed in the middle of it
					}
				}
				return ws, nil
			}
			delete(inside, tid)
			continue
		}
		sig := ws.StopSignal()
		switch {
		case sig == unix.SIGTRAP|0x80:
			var info syscallInfo
			if _, _, e := unix.Syscall6(unix.SYS_PTRACE, ptraceGetSyscallInfo, uintptr(tid), unsafe.Sizeof(info), uintptr(unsafe.Pointer(&info)), 0, 0); e != 0 {
				break // killed meanwhile
			}
			if info.op == stopExit {
				c, known := inside[tid]
				delete(inside, tid)
				if known {
					h.left(x, c, int64(info.nr), toIssuer, &answer) //nolint:gosec // a returned value is signed
					if tr.leave != nil && c.wrote > 0 {
						tr.leave(c, int64(info.nr)) //nolint:gosec // as above
					}
				}
				break
			}
			x.calls++
			c := call{nr: info.nr, args: info.args, index: x.calls}
			if _, ok := kinds[c.nr]; ok {
				x.wrote++
				c.wrote = x.wrote
				if fd := int(int32(c.args[0])); fd > 2 { //nolint:gosec // descriptors are small
					c.path, _ = os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, fd))
				}
			}
			if c.nr == unix.SYS_CONNECT {
				toIssuer[c.args[0]] = tr.port != 0 && connectsTo(tid, c.args[1], tr.port)
			}
			if tr.enter != nil && tr.enter(pid, c) {
				x.last = c
				_ = unix.Kill(pid, unix.SIGKILL)
				break // not inside: it will not be carried out
			}
			inside[tid] = c
		case sig == unix.SIGTRAP && ws.TrapCause() == unix.PTRACE_EVENT_EXIT:
			x.peak = max(x.peak, peakMemory(pid))
		case sig == unix.SIGTRAP && ws.TrapCause() > 0: // a new thread
		case sig == unix.SIGSTOP && !threads[tid]: // its first stop
		default:
			if tr.signal != nil {
				tr.signal(sig)
			}
			resume(tid, int(sig))
			continue
		}
		threads[tid] = true
		resume(tid, 0)
	}
}

// left takes down what a system call has done.
func (h *home) left(x *traced, c call, ret int64, toIssuer map[uint64]bool, answer *bool) {
	wal := strings.HasSuffix(c.path, ".wal")
	switch {
	case c.nr == unix.SYS_WRITE && toIssuer[c.args[0]] && ret > 0:
		x.sends++
	case c.nr == unix.SYS_CLOSE:
		delete(toIssuer, c.args[0])
	case isAnswer(c) && ret > 0:
		*answer = true
	case c.nr == unix.SYS_FSYNC && wal && ret == 0 && *answer:
		*answer = false
		x.seals++
	}
}

// isAnswer reports whether a call writes an issuer's answer into a write-ahead
// file: the intent stands at its beginning.
func isAnswer(c call) bool {
	return c.nr == unix.SYS_PWRITE64 && strings.HasSuffix(c.path, ".wal") && c.args[3] > 0
}

// connectsTo reads the address of a connect.
func connectsTo(tid int, addr uint64, port int) bool {
	var b [8]byte
	if n, err := syscall.PtracePeekData(tid, uintptr(addr), b[:]); err != nil || n < 4 {
		return false
	}
	return binary.NativeEndian.Uint16(b[:]) == unix.AF_INET && int(binary.BigEndian.Uint16(b[2:])) == port
}

func peakMemory(pid int) int {
	doc, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(doc), "VmHWM:")
	value, _, _ := strings.Cut(rest, "kB")
	kib, _ := strconv.Atoi(strings.TrimSpace(value))
	return kib
}
