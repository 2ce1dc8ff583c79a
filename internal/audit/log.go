package audit

import (
	"bytes"
	"crypto/hmac"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"time"
)

const (
	// MaxFile is the size in bytes at which a file of a log is put aside.
	MaxFile = 4 << 20
	// Files is how many files of a log are kept, the one in use included.
	Files = 4
)

// Log is the log of one connection.
type Log struct {
	// Path is the file in use; those put aside have .1, .2 and so on behind it.
	Path string
	// Key is 32 bytes that belong to the connection alone.
	Key []byte
	// Lock keeps other processes out until release is called.
	Lock func() (release func(), err error)
	// Anchor is what is known of the log from elsewhere: how far it had come.
	Anchor Anchor
	// MaxFile replaces the constant when it is above zero.
	MaxFile int64

	behind uint64
}

// Anchor tells how far a log had come at some moment. Kept where the log is not,
// it shows that an older copy of the log was put back, of its end as well.
type Anchor struct {
	Last uint64    // number of the newest line; 0: none
	MAC  string    // its code, in hex
	At   time.Time // when it was taken
}

// same reports whether two anchors are of one moment of one log.
func (a Anchor) same(b Anchor) bool { return a.Last == b.Last && a.MAC == b.MAC }

// Append writes entries behind the log. It fills in their numbers and the id of
// the key. The rules look at each entry first, and what they find unusual is
// written behind it and returned.
func (l *Log) Append(rules Rules, entries ...Entry) (alerts []Alert, err error) {
	release, err := l.Lock()
	if err != nil {
		return nil, err
	}
	defer release()
	f, info, err := openRegular(l.Path, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	end, _, err := openRegular(l.Path+stateSuffix, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	defer end.Close()
	c := newChain(l.Key)
	st, known := c.readState(end)
	st, resumed, err := l.resume(f, info.Size(), c, st, known)
	if err != nil {
		return nil, err
	}
	if odd := l.moor(&st); resumed == "" {
		resumed = odd
	}
	if st.Size > l.maxFile() {
		_ = f.Close()
		if err := l.rotate(&st); err != nil {
			return nil, err
		}
		if f, _, err = openRegular(l.Path, os.O_RDWR|os.O_CREATE); err != nil {
			return nil, err
		}
		defer f.Close()
	}
	if resumed != "" && len(entries) > 0 {
		entries = append([]Entry{{Time: entries[0].Time, Event: EventResumed, Detail: resumed}}, entries...)
	}
	var text []byte
	for _, e := range entries {
		found := st.Habits.look(rules, &e)
		alerts = append(alerts, found...)
		list := []Entry{e}
		for _, a := range found {
			if a.Rule == RuleEnded {
				continue
			}
			list = append(list, Entry{Time: e.Time, Event: EventAlert, Purpose: e.Purpose, Caller: e.Caller, Detail: a.Rule})
		}
		for _, e := range list {
			if text, err = st.add(c, text, e); err != nil {
				return nil, err
			}
		}
	}
	if _, err := f.WriteAt(text, st.Size); err != nil {
		return nil, fmt.Errorf("write the audit log: %w", err)
	}
	st.Size += int64(len(text))
	l.behind = st.Last - min(st.Last, max(l.Anchor.Last, st.Anchor.Last))
	return alerts, c.writeState(end, &st)
}

// Behind is how many lines the log had beyond its anchor after Append.
func (l *Log) Behind() uint64 { return l.behind }

// moor compares the log with its anchor, once for each. It tells what is odd, in
// words for the log.
func (l *Log) moor(st *state) (odd string) {
	if l.Anchor.Last <= st.Anchor.Last { // compared before, or taken up late by a slow process
		return ""
	}
	if !l.holds(st, l.Anchor) {
		odd = fmt.Sprintf("line number %d that is sealed in the record is not in it: an older copy was put back, or the machine lost its power", l.Anchor.Last)
	}
	st.Anchor = l.Anchor
	return odd
}

// holds reports whether the log has the line of an anchor. One that is no longer
// kept because of its age counts as there.
func (l *Log) holds(st *state, a Anchor) bool {
	switch {
	case a.Last < st.First:
		return true
	case a.Last >= st.Last:
		return a.Last == st.Last && a.MAC == st.MAC
	}
	begin := fmt.Appendf(nil, "{\"n\":%d,", a.Last)
	for n := range Files {
		doc, err := os.ReadFile(l.name(n))
		if err != nil {
			break
		}
		for at := len(doc); at > 0; {
			if at = bytes.LastIndex(doc[:at], begin); at == 0 || at > 0 && doc[at-1] == '\n' {
				text, _, _ := bytes.Cut(doc[at:], []byte("\n"))
				if line, err := new(parser).line(text); err == nil && line.Key == st.Key {
					return hex.EncodeToString(line.mac[:]) == a.MAC
				}
			}
		}
	}
	return false
}

// Reached returns the anchor for the lines that the log has now. That is the one
// before where the log does not go on from there, or was not looked at by Append
// since.
func (l *Log) Reached(now time.Time) Anchor {
	end, _, err := openRegular(l.Path+stateSuffix, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) && l.Anchor.Last == 0 {
		return Anchor{At: now}
	}
	if err != nil {
		return l.Anchor
	}
	defer end.Close()
	c := newChain(l.Key)
	st, known := c.readState(end)
	if !known || st.Key != c.id || st.Last < l.Anchor.Last || !l.Anchor.same(st.Anchor) && !l.holds(&st, l.Anchor) {
		return l.Anchor
	}
	return Anchor{Last: st.Last, MAC: st.MAC, At: now}
}

// Sync waits until the log is on the disk. After a power failure one that is
// shorter than its anchor looks like an older copy.
func (l *Log) Sync() error {
	for _, path := range []string{l.Path, l.Path + stateSuffix} {
		f, _, err := openRegular(path, os.O_RDWR)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return fmt.Errorf("write the audit log: %w", err)
		}
	}
	return nil
}

// add appends the line of an entry to text.
func (st *state) add(c *chain, text []byte, e Entry) ([]byte, error) {
	before, _ := hex.DecodeString(st.MAC) // ours, and checked
	e.Number, e.Key, e.Time = st.Last+1, st.Key, e.Time.UTC().Truncate(time.Millisecond)
	line, mac, err := c.format(before, &e)
	if err != nil {
		return nil, err
	}
	st.Last, st.MAC = e.Number, hex.EncodeToString(mac)
	return append(text, line...), nil
}

func (l *Log) maxFile() int64 {
	if l.MaxFile > 0 {
		return l.MaxFile
	}
	return MaxFile
}

// resume finds the end of the log. It tells what is odd about it, in words for
// the log.
func (l *Log) resume(f *os.File, size int64, c *chain, st state, known bool) (_ state, odd string, err error) {
	fresh := state{First: 1, Size: size, Key: c.id}
	switch {
	case !known && size == 0:
		return fresh, "", nil
	case !known:
		return l.adopt(f, fresh, "its end had not been written down")
	case st.Key != c.id: // the connection was made or sealed anew, and its key with it
		if begun, ok := firstUnder(f, size, c, st.Size); ok {
			return begun, "", nil
		}
		err := endLine(f, &fresh)
		return fresh, "", err
	case st.Size == size:
		return st, "", nil
	case size < st.Size:
		st.Size = size
		err := endLine(f, &st)
		return st, "lines were cut off", err
	}
	// A line was written, and then its end was not: the process was killed.
	tail := make([]byte, size-st.Size)
	if _, err := f.ReadAt(tail, st.Size); err != nil && !errors.Is(err, io.EOF) {
		return st, "", err
	}
	for len(tail) > 0 {
		text, rest, whole := bytes.Cut(tail, []byte("\n"))
		if !whole {
			return st, "", f.Truncate(st.Size) // half a line: what it was about was never handed out
		}
		line, err := new(parser).line(text)
		before, _ := hex.DecodeString(st.MAC)
		if err != nil || line.Number != st.Last+1 || !hmac.Equal(line.mac[:], c.next(before, line.body)) {
			st.Size = size
			err := endLine(f, &st)
			return st, "lines were added", err
		}
		st.Last, st.MAC, st.Size = line.Number, hex.EncodeToString(line.mac[:]), st.Size+int64(len(text))+1
		tail = rest
	}
	return st, "", nil
}

// firstUnder takes up a chain of which the first line alone was written, behind
// the end of the chain before, and the process killed then. Not of more lines:
// those that were cut off behind them would not show.
func firstUnder(f *os.File, size int64, c *chain, end int64) (state, bool) {
	if end < 0 || size <= end || size-end > maxLine {
		return state{}, false
	}
	text := make([]byte, size-end)
	if _, err := f.ReadAt(text, end); err != nil && !errors.Is(err, io.EOF) {
		return state{}, false
	}
	body, whole := bytes.CutSuffix(text, []byte("\n"))
	line, err := new(parser).line(body)
	if !whole || err != nil || line.Key != c.id || line.Number != 1 || !hmac.Equal(line.mac[:], c.next(nil, line.body)) {
		return state{}, false
	}
	return state{First: 1, Last: 1, MAC: hex.EncodeToString(line.mac[:]), Size: size, Key: c.id}, true
}

// adopt goes on behind the last line of a log whose end is not known.
func (l *Log) adopt(f *os.File, st state, odd string) (state, string, error) {
	if last, ok := lastLine(f, st.Size); ok && last.Key == st.Key {
		st.Last, st.MAC = last.Number, hex.EncodeToString(last.mac[:])
	}
	err := endLine(f, &st)
	return st, odd, err
}

// endLine ends a last line that was left without its end.
func endLine(f *os.File, st *state) error {
	if st.Size == 0 {
		return nil
	}
	var last [1]byte
	if _, err := f.ReadAt(last[:], st.Size-1); err != nil || last[0] == '\n' {
		return err
	}
	_, err := f.WriteAt([]byte{'\n'}, st.Size)
	st.Size++
	return err
}

func lastLine(f *os.File, size int64) (Line, bool) {
	from := max(0, size-maxLine)
	tail := make([]byte, size-from)
	if _, err := f.ReadAt(tail, from); err != nil && !errors.Is(err, io.EOF) {
		return Line{}, false
	}
	tail = bytes.TrimSuffix(tail, []byte("\n"))
	line, err := new(parser).line(tail[bytes.LastIndexByte(tail, '\n')+1:])
	return line, err == nil
}

// rotate puts the file in use aside and drops the oldest one.
func (l *Log) rotate(st *state) error {
	oldest := l.name(Files - 1)
	if f, err := os.Open(oldest); err == nil {
		info, err := f.Stat()
		if err == nil {
			if last, ok := lastLine(f, info.Size()); ok && last.Key == st.Key {
				st.First, st.Before = last.Number+1, hex.EncodeToString(last.mac[:])
			}
		}
		_ = f.Close()
	}
	for n := Files - 2; n >= 0; n-- {
		if err := os.Rename(l.name(n), l.name(n+1)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("put the audit log aside: %w", err)
		}
	}
	st.Size = 0
	return nil
}

func (l *Log) name(n int) string {
	if n == 0 {
		return l.Path
	}
	return l.Path + "." + strconv.Itoa(n)
}

// openRegular opens a file for its owner alone, and no link. It tells what the file
// is.
func openRegular(path string, flag int) (*os.File, fs.FileInfo, error) {
	if noFollow == 0 {
		if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
			return nil, nil, notRegular(path)
		}
	}
	f, err := os.OpenFile(path, flag|noFollow, 0o600)
	if err != nil {
		if info, lerr := os.Lstat(path); lerr == nil && !info.Mode().IsRegular() {
			return nil, nil, notRegular(path)
		}
		return nil, nil, fmt.Errorf("open the audit log: %w", err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = notRegular(path)
	}
	if err != nil {
		_ = f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

func notRegular(path string) error {
	return fmt.Errorf("open the audit log: %s is not a regular file", path)
}
