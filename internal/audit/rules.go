package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"time"
)

// The names of the rules, as alerts and findings show them.
const (
	RuleNewCaller = "new-caller" // an executable that had never asked before
	RuleBurst     = "burst"      // far more in a minute than is usual
	RuleErrors    = "errors"     // APIs refuse the token, or fail, again and again
	RuleRefused   = "after-end"  // asked for again after the grant has ended
)

// Rules says what counts as unusual. The zero value finds nothing.
type Rules struct {
	// Settle is after how many uses a caller that was never seen is unusual.
	Settle int
	// Burst is how many uses in one minute are unusual.
	Burst int
	// Errors is how many answers in ten minutes by which the token was refused
	// are. Of other failures it has to be as many, and half of all calls.
	Errors int
}

// DefaultRules are those that hold for everybody.
func DefaultRules() Rules { return Rules{Settle: 20, Burst: 300, Errors: 10} }

// Fails reports whether an API's answer counts as a failure beside 401, which is a
// refusal of the token: 403, 429, and what a server says of its own faults (RFC
// 9110 section 15.6). All others are what programs run into in the course of
// things, such as 404 and 409.
func Fails(status int) bool { return status == 403 || status == 429 || status >= 500 }

// RuleEnded is not unusual: the grant has ended just now. It is told once and is
// no line of its own.
const RuleEnded = "ended"

// Alert is something unusual.
type Alert struct {
	Rule string
	Text string // for people
}

// purposeAPI is the purpose of a token that stands for one call.
const purposeAPI = "api"

// maxCallers bounds how many executables are remembered.
const maxCallers = 64

// Habits is what the rules remember of a connection.
type Habits struct {
	Uses    int
	Callers []string // hashes of executables
	Burst   window
	Errors  window
	Failed  window
	Ended   int // refusals since the grant ended; at most 2
}

// window counts what happens in a span of time.
type window struct {
	Since time.Time
	Count int
	Of    int // how often it could have happened
	Told  bool
}

// add counts n things of as many that could have been, and reports whether the limit was passed just now: once until a
// whole span has stayed below it.
func (w *window) add(now time.Time, n, of int, span time.Duration, limit int) bool {
	if age := now.Sub(w.Since); age >= span || age < 0 {
		w.Told = w.Told && w.Count > limit && age < 2*span
		w.Since, w.Count, w.Of = now, 0, 0
	}
	w.Count += n
	w.Of += of
	if limit <= 0 || w.Told || w.Count <= limit || 2*w.Count < w.Of {
		return false
	}
	w.Told = true
	return true
}

// look counts an entry, and returns what is unusual about it.
func (h *Habits) look(r Rules, e *Entry) (alerts []Alert) {
	switch e.Event {
	case EventConnect:
		h.Ended = 0
		return nil
	case EventRefused:
		if r == (Rules{}) || h.Ended > 1 {
			return nil
		}
		if h.Ended++; h.Ended == 1 {
			return []Alert{{RuleEnded, "its grant has ended"}}
		}
		return []Alert{{RuleRefused, "it is still asked for, though its grant has ended"}}
	case EventToken, EventCalls:
	default:
		return nil
	}
	h.Ended = 0 // it works
	uses := e.Uses()
	if e.Event == EventToken {
		if a, ok := h.caller(r, e.Caller); ok {
			alerts = append(alerts, a)
		}
	}
	h.Uses += uses
	if h.Burst.add(e.Time, uses, uses, time.Minute, r.Burst) {
		alerts = append(alerts, Alert{RuleBurst, fmt.Sprintf("it was used more than %d times within a minute", r.Burst)})
	}
	if e.Event == EventToken && e.Purpose != purposeAPI {
		return alerts // what the program does with it is not known
	}
	if e.Refused > 0 && h.Errors.add(e.Time, e.Refused, e.Refused, 10*time.Minute, r.Errors) {
		alerts = append(alerts, Alert{RuleErrors, fmt.Sprintf("APIs refused its token more than %d times within ten minutes", r.Errors)})
	}
	if h.Failed.add(e.Time, e.Failed, uses, 10*time.Minute, r.Errors) {
		alerts = append(alerts, Alert{RuleErrors, fmt.Sprintf("more than %d calls, and half of all, failed within ten minutes", r.Errors)})
	}
	return alerts
}

// caller remembers an executable.
func (h *Habits) caller(r Rules, path string) (Alert, bool) {
	if path == "" {
		return Alert{}, false
	}
	sum := sha256.Sum256([]byte(path))
	id := hex.EncodeToString(sum[:6])
	if i := slices.Index(h.Callers, id); i >= 0 {
		// The one seen last stands last, so that the oldest is forgotten first.
		h.Callers = append(slices.Delete(h.Callers, i, i+1), id)
		return Alert{}, false
	}
	if h.Callers = append(h.Callers, id); len(h.Callers) > maxCallers {
		h.Callers = h.Callers[1:]
	}
	if r.Settle <= 0 || h.Uses < r.Settle {
		return Alert{}, false
	}
	return Alert{RuleNewCaller, "a program asked that never had before: " + path}, true
}

// markSuffix names the file that says that an alert about a connection that is
// gone is out. It needs no key, which is gone with the connection.
const markSuffix = ".asked"

// AskedAfter reports whether a connection with a log, which is gone, is asked for
// for the first time since.
func AskedAfter(path string) bool {
	if !Exists(path) {
		return false
	}
	f, err := os.OpenFile(path+markSuffix, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return false
	}
	_ = f.Close()
	return true
}

// Begun forgets AskedAfter: there is a connection again.
func Begun(path string) { _ = os.Remove(path + markSuffix) }
