// Package keyringtest holds the keychains that tests run against: one in
// memory with scripted faults, a scripted Secret Service, and the real
// gnome-keyring, the latter two on a private bus.
package keyringtest

import (
	"errors"
	"maps"
	"sync"

	"github.com/apiauth/apiauth/internal/keyring"
)

// Op is an operation of a keychain.
type Op string

// The operations. Any stands for all of them.
const (
	Any    Op = ""
	Get    Op = "get"
	Set    Op = "set"
	Delete Op = "delete"
)

// Fault changes how Memory answers. The zero Fault changes nothing. The parts
// apply in the order of the fields: match, wait, act or not, wait, answer.
type Fault struct {
	// Op limits the fault to one operation.
	Op Op
	// Match limits the fault to some items. Nil: all.
	Match func(service, account string) bool
	// Times is how many calls meet the fault; afterwards it is gone. Zero: all
	// of them, until Heal.
	Times int
	// Before blocks the call, before anything is done, until the channel is
	// closed or sends.
	Before <-chan struct{}
	// Skip leaves the item as it is: with no Err the answer is a success that
	// did not happen. A Get that skips finds nothing.
	Skip bool
	// After blocks the call when the item has been read or changed.
	After <-chan struct{}
	// Err is the answer. Without Skip the operation takes place nevertheless.
	Err error
	// Panic makes the call panic, as the library does on some answers.
	Panic bool
}

// Memory is a keychain in memory, made to misbehave. It is a keyring.Backend
// and safe for concurrent use. Unlike keyring.Keyring it runs calls in
// parallel, and MaxParallel tells how many there were.
type Memory struct {
	mu       sync.Mutex
	items    map[item]string
	faults   []*Fault
	calls    map[Op]int
	maxSize  int
	noUpdate bool
	running  int
	parallel int
	entered  chan Op
}

type item struct{ service, account string }

// NewMemory makes an empty keychain without faults.
func NewMemory() *Memory {
	return &Memory{items: map[item]string{}, calls: map[Op]int{}, entered: make(chan Op, 1024)}
}

// Script adds a fault. The first one that matches a call decides.
func (m *Memory) Script(f Fault) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults = append(m.faults, &f)
}

// Heal removes all faults and limits. It does not release calls that wait.
func (m *Memory) Heal() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults, m.maxSize, m.noUpdate = nil, 0, false
}

// LoseWrites answers writes with success and does nothing (seen: KeePassXC).
func (m *Memory) LoseWrites() {
	m.Script(Fault{Op: Set, Skip: true})
	m.Script(Fault{Op: Delete, Skip: true})
}

// Hang blocks every call of an operation before it does anything, until the
// returned function is called, which may be done more than once.
func (m *Memory) Hang(op Op) (release func()) {
	gate := make(chan struct{})
	m.Script(Fault{Op: op, Before: gate})
	return sync.OnceFunc(func() { close(gate) })
}

// AnswerLate performs every call of an operation at once and holds back the
// answer until the returned function is called, which may be done more than
// once.
func (m *Memory) AnswerLate(op Op) (release func()) {
	gate := make(chan struct{})
	m.Script(Fault{Op: op, After: gate})
	return sync.OnceFunc(func() { close(gate) })
}

// Slow lets wait run before every call of an operation, for a clock of the
// test's own. It is called without a lock held.
func (m *Memory) Slow(op Op, wait func()) {
	m.Script(Fault{Op: op, Match: func(string, string) bool { wait(); return false }})
}

// Lock answers everything with keyring.ErrLocked.
func (m *Memory) Lock() { m.Script(Fault{Skip: true, Err: keyring.ErrLocked}) }

// Deny answers an operation with keyring.ErrDenied.
func (m *Memory) Deny(op Op) { m.Script(Fault{Op: op, Skip: true, Err: keyring.ErrDenied}) }

// Absent answers everything with keyring.ErrAbsent.
func (m *Memory) Absent() { m.Script(Fault{Skip: true, Err: keyring.ErrAbsent}) }

// RefuseOverwrites fails a Set of an item that exists.
func (m *Memory) RefuseOverwrites() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.noUpdate = true
}

// MaxSize fails a Set of more than n bytes with keyring.ErrTooLarge.
func (m *Memory) MaxSize(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.maxSize = n
}

// Calls returns how many calls of an operation there were.
func (m *Memory) Calls(op Op) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if op != Any {
		return m.calls[op]
	}
	sum := 0
	for _, n := range m.calls {
		sum += n
	}
	return sum
}

// MaxParallel returns how many calls were at work at once at most.
func (m *Memory) MaxParallel() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.parallel
}

// Entered gets the operation of each call when it arrives, before any fault;
// the first 1,024 that nobody receives are kept.
func (m *Memory) Entered() <-chan Op { return m.entered }

// Contents returns a copy of what is stored, by "service/account". The values
// are in the clear: a test must not print them when it uses real ones.
func (m *Memory) Contents() map[string]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := make(map[string]string, len(m.items))
	for i, v := range m.items {
		c[i.service+"/"+i.account] = v
	}
	return c
}

// Put stores an item behind everybody's back: no fault, no count.
func (m *Memory) Put(service, account, value string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.items[item{service, account}] = value
}

// Remove removes an item behind everybody's back.
func (m *Memory) Remove(service, account string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.items, item{service, account})
}

// Snapshot copies the items, and the returned function puts them back: a
// keychain that was restored from a backup.
func (m *Memory) Snapshot() (restore func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	saved := maps.Clone(m.items)
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.items = maps.Clone(saved)
	}
}

// Get implements keyring.Backend.
func (m *Memory) Get(service, account string) (string, error) {
	var value string
	err := m.do(Get, service, account, func() error {
		v, ok := m.items[item{service, account}]
		if !ok {
			return keyring.ErrNotFound
		}
		value = v
		return nil
	}, keyring.ErrNotFound)
	if err != nil {
		return "", err
	}
	return value, nil
}

// Set implements keyring.Backend.
func (m *Memory) Set(service, account, value string) error {
	return m.do(Set, service, account, func() error {
		i := item{service, account}
		if m.maxSize > 0 && len(value) > m.maxSize {
			return keyring.ErrTooLarge
		}
		if _, ok := m.items[i]; ok && m.noUpdate {
			return errors.New("the item exists and is not overwritten")
		}
		m.items[i] = value
		return nil
	}, nil)
}

// Delete implements keyring.Backend.
func (m *Memory) Delete(service, account string) error {
	return m.do(Delete, service, account, func() error {
		i := item{service, account}
		if _, ok := m.items[i]; !ok {
			return keyring.ErrNotFound
		}
		delete(m.items, i)
		return nil
	}, nil)
}

// do runs act under the lock, as the faults have it. Skipped, it answers with
// the fault's error or with skipped.
func (m *Memory) do(op Op, service, account string, act func() error, skipped error) error {
	m.mu.Lock()
	m.calls[op]++
	m.running++
	m.parallel = max(m.parallel, m.running)
	m.mu.Unlock()
	select {
	case m.entered <- op:
	default:
	}
	defer func() {
		m.mu.Lock()
		m.running--
		m.mu.Unlock()
	}()
	f := m.match(op, service, account)
	if f.Before != nil {
		<-f.Before
	}
	if f.Panic {
		panic("keyringtest: a scripted panic")
	}
	err := skipped
	if !f.Skip {
		m.mu.Lock()
		err = act()
		m.mu.Unlock()
	}
	if f.After != nil {
		<-f.After
	}
	if f.Err != nil {
		return f.Err
	}
	return err
}

// match takes the fault for a call. Match functions run without the lock.
func (m *Memory) match(op Op, service, account string) Fault {
	m.mu.Lock()
	candidates := append([]*Fault(nil), m.faults...)
	m.mu.Unlock()
	for _, f := range candidates {
		if f.Op != Any && f.Op != op {
			continue
		}
		if f.Match != nil && !f.Match(service, account) {
			continue
		}
		m.mu.Lock()
		if f.Times < 0 { // used up by a call at the same time
			m.mu.Unlock()
			continue
		}
		if f.Times > 0 {
			f.Times--
			if f.Times == 0 {
				f.Times = -1
				m.drop(f)
			}
		}
		found := *f
		m.mu.Unlock()
		return found
	}
	return Fault{}
}

// drop takes a fault out. The lock is held.
func (m *Memory) drop(f *Fault) {
	for i, g := range m.faults {
		if f == g {
			m.faults = append(m.faults[:i:i], m.faults[i+1:]...)
			return
		}
	}
}
