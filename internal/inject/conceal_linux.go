package inject

import (
	"bytes"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Conceal keeps this process's memory from other processes of the same user
// while an untrusted child runs beside it: the kernel then refuses to trace it
// and to show its memory, open files and environment below /proc. Secrets of our
// own are overwritten in the environment that /proc shows, as root sees that in
// any case. What could not be done is left undone: the kernel may be built
// without either.
func Conceal() {
	overwriteEnviron()
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
}

// overwriteEnviron blanks the values of our own secrets in the block that the
// kernel copied onto the stack at the start. Go has copied it too, so the
// values that this program uses stay as they are.
func overwriteEnviron() {
	start, end, ok := environBlock()
	if !ok {
		return
	}
	mem, err := os.OpenFile("/proc/self/mem", os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer mem.Close()
	block := make([]byte, end-start)
	if _, err := mem.ReadAt(block, start); err != nil {
		return
	}
	at := start
	for _, kv := range bytes.SplitAfter(block, []byte{0}) {
		name, value, ok := bytes.Cut(bytes.TrimSuffix(kv, []byte{0}), []byte("="))
		if ok && ownSecret(string(name)) {
			_, _ = mem.WriteAt(bytes.Repeat([]byte("x"), len(value)), at+int64(len(name))+1)
		}
		at += int64(len(kv))
	}
}

// environBlock returns the addresses of that block: fields 50 and 51 of
// /proc/self/stat (proc_pid_stat(5)).
func environBlock() (start, end int64, ok bool) {
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return 0, 0, false
	}
	// The second field is a name in brackets that may hold anything.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 49 {
		return 0, 0, false
	}
	start, err = strconv.ParseInt(string(fields[47]), 10, 64)
	if err != nil {
		return 0, 0, false
	}
	end, err = strconv.ParseInt(string(fields[48]), 10, 64)
	const most = 8 << 20
	return start, end, err == nil && start > 0 && end > start && end-start < most
}
