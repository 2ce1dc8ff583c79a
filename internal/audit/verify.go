package audit

import (
	"bytes"
	"crypto/hmac"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
)

// Fault is where a log is not what was written.
type Fault struct {
	File string `json:"file"`
	Line int    `json:"line"` // from 1; 0: the file as a whole
	Why  string `json:"why"`
}

func (f Fault) String() string {
	if f.Line == 0 {
		return f.File + ": " + f.Why
	}
	return fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.Why)
}

// History is a log as it was read, oldest line first.
type History struct {
	Lines []Line
	// Faults is what does not fit; filled when a key was there to check with.
	Faults []Fault
	// Checked is how many lines were proven, Former how many were written under
	// the key of a former connection of that name, which is gone.
	Checked, Former int
}

// Exists reports whether there is a log at a path.
func Exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// Read reads the log and, when it has a key, proves every line: its code covers
// the line and the code before, so that a change, a removal and another order
// show; the end that is written down shows what was cut off, and the anchor that
// both were put back. A lock is taken when there is one, so that no line is half
// written.
func (l *Log) Read() (*History, error) {
	if l.Lock != nil {
		release, err := l.Lock()
		if err != nil {
			return nil, err
		}
		defer release()
	}
	h := &History{}
	p := prover{h: h}
	if l.Key != nil {
		p.key, p.chain, p.anchor = l.Key, newChain(l.Key), l.Anchor
		if f, err := os.Open(l.Path + stateSuffix); err == nil {
			p.state, p.known = p.chain.readState(f)
			_ = f.Close()
		}
		p.known = p.known && p.state.Key == p.chain.id
	}
	found := false
	for n := Files - 1; n >= 0; n-- {
		doc, err := os.ReadFile(l.name(n))
		if errors.Is(err, fs.ErrNotExist) {
			if found {
				p.fault(l.name(n), 0, "the file is missing")
			}
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read the audit log: %w", err)
		}
		found = true
		p.file(l.name(n), doc)
	}
	if p.chain != nil {
		p.end(l.Path, found || Exists(l.Path+stateSuffix))
	}
	return h, nil
}

// prover goes through the lines of a log.
type prover struct {
	h      *History
	key    []byte
	chain  *chain
	anchor Anchor
	state  state
	known  bool

	last  uint64 // number of the last line under the key
	mac   []byte // its code
	lines int    // of the file at hand
}

func (p *prover) fault(file string, line int, why string) {
	if p.chain != nil {
		p.h.Faults = append(p.h.Faults, Fault{file, line, why})
	}
}

func (p *prover) file(name string, doc []byte) {
	p.lines = 0
	p.h.Lines = slices.Grow(p.h.Lines, bytes.Count(doc, []byte("\n")))
	var chains func() *chain
	if p.chain != nil {
		chains = func() *chain { return newChain(p.key) }
	}
	for _, part := range pieces(doc, chains) {
		next := 0
		for n := range part.count {
			p.lines++
			if err := part.faults[n]; err != nil {
				p.fault(name, p.lines, err.Error())
				continue
			}
			if p.chain != nil {
				line := &part.lines[next]
				// What was checked in the piece holds where the line before is
				// the one that this one has to follow.
				checked := next > 0 && bytes.Equal(p.mac, part.lines[next-1].mac[:])
				p.line(name, line, checked && part.follows[next])
			}
			next++
		}
		p.h.Lines = append(p.h.Lines, part.lines...)
	}
}

// line proves a line; follows says that its code is known to be right.
func (p *prover) line(name string, l *Line, follows bool) {
	if l.Key != p.chain.id {
		if p.last > 0 {
			p.fault(name, p.lines, "the line is under another key")
		}
		p.h.Former++
		return
	}
	if p.last == 0 { // the first one
		first, before := uint64(1), []byte(nil)
		if p.known {
			first = p.state.First
			before, _ = hex.DecodeString(p.state.Before)
		}
		p.last, p.mac = first-1, before
	}
	switch {
	case l.Number != p.last+1:
		p.fault(name, p.lines, fmt.Sprintf("line number %d stands where %d is due: removed, added or reordered", l.Number, p.last+1))
	case !follows && !hmac.Equal(l.mac[:], p.chain.next(p.mac, l.body)):
		p.fault(name, p.lines, "its code is wrong: the line, or the one before, was changed")
	case l.Event == EventResumed:
		p.fault(name, p.lines, "the log was not as it had been left: "+l.Detail)
	case l.Number == p.anchor.Last && hex.EncodeToString(l.mac[:]) != p.anchor.MAC:
		p.fault(name, p.lines, "the line is another one than the record has sealed: another copy of the log was put in place")
	default:
		p.h.Checked++
	}
	p.last, p.mac = l.Number, l.mac[:]
}

// end compares the last line with what is written down about it.
func (p *prover) end(name string, found bool) {
	switch {
	case !found && p.anchor.Last > 0:
		p.fault(name, 0, fmt.Sprintf("the log is missing, and the record has sealed its line number %d", p.anchor.Last))
	case !found:
	case !p.known && p.last > 0:
		p.fault(name, 0, "its end is not written down beside it, or that was changed")
	case !p.known && p.h.Former > 0:
		p.fault(name, 0, "no line is under the key of the connection")
	case p.known && p.last < p.state.Last:
		p.fault(name, p.lines, fmt.Sprintf("it ends here, and line number %d was the last: lines were cut off", p.state.Last))
	case p.last < p.anchor.Last:
		p.fault(name, p.lines, fmt.Sprintf("it ends with line number %d, and the record has sealed number %d: an older copy was put back, or the machine lost its power", p.last, p.anchor.Last))
	case p.known && p.last == p.state.Last && hex.EncodeToString(p.mac) != p.state.MAC:
		p.fault(name, p.lines, "the last line is not the one that was written")
	}
}
