//go:build unix

package keyringtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// Behaviour is how the fake Secret Service acts.
type Behaviour string

// What keychains have been seen to do.
const (
	OK                    Behaviour = "ok"
	HangAlways            Behaviour = "hang"                    // answers nothing
	HangWrites            Behaviour = "hang-writes"             // reads, but answers no write and does not do it
	LateWrites            Behaviour = "late-writes"             // writes, and does not answer
	LockedPromptDismissed Behaviour = "locked-prompt-dismissed" // the person says no
	LockedPromptOpen      Behaviour = "locked-prompt-open"      // the person is not there
	WritePromptDismissed  Behaviour = "write-prompt-dismissed"  // asks for each write, the person says no
	LoseWrites            Behaviour = "lose-writes"             // answers success and does nothing
	RefuseOverwrite       Behaviour = "refuse-overwrite"        // an error for a write over an item
	Slow                  Behaviour = "slow"                    // waits before each answer
	WrongTypes            Behaviour = "wrong-types"             // answers of other types than specified
	LeaveInWrite          Behaviour = "leave-in-write"          // gone from the bus in the middle of a write
	EchoSecret            Behaviour = "echo-secret"             // an error for a write that repeats the secret
)

// Behaviours lists them all.
func Behaviours() []Behaviour {
	return []Behaviour{OK, HangAlways, HangWrites, LateWrites, LockedPromptDismissed, LockedPromptOpen, WritePromptDismissed,
		LoseWrites, RefuseOverwrite, Slow, WrongTypes, LeaveInWrite, EchoSecret}
}

const (
	serviceInterface    = "org.freedesktop.Secret.Service"
	collectionInterface = "org.freedesktop.Secret.Collection"
	itemInterface       = "org.freedesktop.Secret.Item"
	sessionInterface    = "org.freedesktop.Secret.Session"
	promptInterface     = "org.freedesktop.Secret.Prompt"
	propertiesInterface = "org.freedesktop.DBus.Properties"
	noPrompt            = dbus.ObjectPath("/")
	promptPath          = secretsPath + "/prompt/p1"
	sessionPath         = secretsPath + "/session/s1"
	defaultAlias        = secretsPath + "/aliases/default"
)

// Fake is a Secret Service with one collection, "login", that keeps items in
// memory. It speaks as much of the specification as go-keyring needs.
type Fake struct {
	conn  *dbus.Conn
	delay time.Duration
	gone  chan struct{}
	asked chan struct{}

	mu        sync.Mutex
	behaviour Behaviour
	items     map[dbus.ObjectPath]*fakeItem
	next      int
	writes    int
}

type fakeItem struct {
	attributes map[string]string
	value      []byte
}

// StartFake puts a fake Secret Service on a private bus, from within the
// test's process, until the test ends.
func StartFake(t testing.TB, b *Bus, behaviour Behaviour) *Fake {
	t.Helper()
	f, err := ServeFake(b.Address, behaviour, 30*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

// ServeFake connects to a bus, takes the name of the Secret Service and
// serves until Close. The delay is for Slow.
func ServeFake(address string, behaviour Behaviour, delay time.Duration) (*Fake, error) {
	if !slices.Contains(Behaviours(), behaviour) {
		return nil, fmt.Errorf("no behaviour is called %q", behaviour)
	}
	conn, err := dbus.Connect(address)
	if err != nil {
		return nil, err
	}
	f := &Fake{conn: conn, delay: delay, gone: make(chan struct{}), asked: make(chan struct{}, 64), behaviour: behaviour, items: map[dbus.ObjectPath]*fakeItem{}}
	if err := f.export(); err != nil {
		f.Close()
		return nil, err
	}
	reply, err := conn.RequestName(secretsName, dbus.NameFlagDoNotQueue)
	if err == nil && reply != dbus.RequestNameReplyPrimaryOwner {
		err = errors.New("somebody else is the Secret Service of this bus")
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Close leaves the bus. Calls that hang get no answer but the bus's.
func (f *Fake) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-f.gone:
	default:
		close(f.gone)
		_ = f.conn.Close()
	}
}

// Behave changes the behaviour for calls from now on.
func (f *Fake) Behave(b Behaviour) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.behaviour = b
}

// Writes returns how many writes and deletions arrived.
func (f *Fake) Writes() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.writes
}

// Contents returns what is stored, by "service/account", in the clear.
func (f *Fake) Contents() map[string]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := map[string]string{}
	for _, i := range f.items {
		c[i.attributes["service"]+"/"+i.attributes["username"]] = string(i.value)
	}
	return c
}

// Prompted gets a value each time a prompt is shown.
func (f *Fake) Prompted() <-chan struct{} { return f.asked }

// Gone is closed when the fake has left the bus.
func (f *Fake) Gone() <-chan struct{} { return f.gone }

func (f *Fake) export() error {
	type part struct {
		methods map[string]any
		path    dbus.ObjectPath
		tree    bool
		name    string
	}
	parts := []part{
		{map[string]any{"OpenSession": f.openSession, "Unlock": f.unlock, "Lock": f.lock}, secretsPath, false, serviceInterface},
		{map[string]any{"Get": f.property}, secretsPath, true, propertiesInterface},
		{map[string]any{"CreateItem": f.createItem, "SearchItems": f.searchItems}, loginCollection, false, collectionInterface},
		{map[string]any{"CreateItem": f.createItem, "SearchItems": f.searchItems}, defaultAlias, false, collectionInterface},
		{map[string]any{"GetSecret": f.getSecret, "Delete": f.deleteItem}, loginCollection, true, itemInterface},
		{map[string]any{"Close": f.closeSession}, sessionPath, false, sessionInterface},
		{map[string]any{"Prompt": f.prompt}, promptPath, false, promptInterface},
	}
	for _, p := range parts {
		export := f.conn.ExportMethodTable
		if p.tree {
			export = f.conn.ExportSubtreeMethodTable
		}
		if err := export(p.methods, p.path, p.name); err != nil {
			return err
		}
	}
	return nil
}

// enter applies what the behaviour does to every call.
func (f *Fake) enter(write bool) Behaviour {
	f.mu.Lock()
	b := f.behaviour
	if write {
		f.writes++
	}
	f.mu.Unlock()
	switch {
	case b == HangAlways, b == HangWrites && write:
		<-f.gone
	case b == Slow:
		timer := time.NewTimer(f.delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-f.gone:
		}
	case b == LeaveInWrite && write:
		f.Close()
	}
	return b
}

func (f *Fake) openSession(string, dbus.Variant) (dbus.Variant, dbus.ObjectPath, *dbus.Error) {
	f.enter(false)
	return dbus.MakeVariant(""), sessionPath, nil
}

func (f *Fake) closeSession() *dbus.Error {
	f.enter(false)
	return nil
}

func (f *Fake) property(_ dbus.Message, _, name string) (dbus.Variant, *dbus.Error) {
	b := f.enter(false)
	switch {
	case b == WrongTypes:
		return dbus.MakeVariant("not a list"), nil
	case name == "Collections":
		return dbus.MakeVariant([]dbus.ObjectPath{loginCollection}), nil
	case name == "Locked":
		return dbus.MakeVariant(b == LockedPromptDismissed || b == LockedPromptOpen), nil
	}
	return dbus.Variant{}, dbus.NewError("org.freedesktop.DBus.Error.UnknownProperty", nil)
}

func (f *Fake) unlock(objects []dbus.ObjectPath) ([]dbus.ObjectPath, dbus.ObjectPath, *dbus.Error) {
	switch f.enter(false) {
	case LockedPromptDismissed, LockedPromptOpen:
		return []dbus.ObjectPath{}, promptPath, nil
	}
	return objects, noPrompt, nil
}

func (f *Fake) lock(objects []dbus.ObjectPath) ([]dbus.ObjectPath, dbus.ObjectPath, *dbus.Error) {
	f.enter(false)
	f.Behave(LockedPromptOpen)
	return objects, noPrompt, nil
}

func (f *Fake) prompt(string) *dbus.Error {
	b := f.enter(false)
	select {
	case f.asked <- struct{}{}:
	default:
	}
	switch b {
	case LockedPromptDismissed, WritePromptDismissed:
		_ = f.conn.Emit(promptPath, promptInterface+".Completed", true, dbus.MakeVariant(""))
	}
	return nil
}

func (f *Fake) find(attributes map[string]string) (found []dbus.ObjectPath) {
	for path, i := range f.items {
		if maps.Equal(i.attributes, attributes) {
			found = append(found, path)
		}
	}
	return found
}

func (f *Fake) searchItems(attributes map[string]string) ([]dbus.ObjectPath, *dbus.Error) {
	f.enter(false)
	f.mu.Lock()
	defer f.mu.Unlock()
	found := f.find(attributes)
	if found == nil {
		found = []dbus.ObjectPath{}
	}
	return found, nil
}

func (f *Fake) createItem(properties map[string]dbus.Variant, secret wireSecret, _ bool) (dbus.ObjectPath, dbus.ObjectPath, *dbus.Error) {
	b := f.enter(true)
	attributes, _ := properties[itemInterface+".Attributes"].Value().(map[string]string)
	f.mu.Lock()
	found := f.find(attributes)
	var path dbus.ObjectPath
	switch {
	case b == WritePromptDismissed:
		f.mu.Unlock()
		return noPrompt, promptPath, nil
	case b == EchoSecret:
		f.mu.Unlock()
		return noPrompt, noPrompt, dbus.NewError("org.freedesktop.DBus.Error.Failed", []any{"cannot store " + string(secret.Value)})
	case b == RefuseOverwrite && len(found) > 0:
		f.mu.Unlock()
		return noPrompt, noPrompt, dbus.NewError("org.freedesktop.DBus.Error.Failed", []any{"the item exists"})
	case b == LoseWrites:
		f.next++
		path = f.itemPath(f.next)
	case len(found) > 0:
		path = found[0]
		f.items[path].value = slices.Clone(secret.Value)
	default:
		f.next++
		path = f.itemPath(f.next)
		f.items[path] = &fakeItem{attributes, slices.Clone(secret.Value)}
	}
	f.mu.Unlock()
	if b == LateWrites {
		<-f.gone
	}
	return path, noPrompt, nil
}

func (*Fake) itemPath(n int) dbus.ObjectPath {
	return loginCollection + dbus.ObjectPath(fmt.Sprintf("/%d", n))
}

func (f *Fake) getSecret(m dbus.Message, session dbus.ObjectPath) (wireSecret, *dbus.Error) {
	f.enter(false)
	path, _ := m.Headers[dbus.FieldPath].Value().(dbus.ObjectPath)
	f.mu.Lock()
	defer f.mu.Unlock()
	i := f.items[path]
	if i == nil {
		return wireSecret{}, dbus.NewError("org.freedesktop.Secret.Error.NoSuchObject", nil)
	}
	return wireSecret{session, []byte{}, i.value, "text/plain; charset=utf8"}, nil
}

func (f *Fake) deleteItem(m dbus.Message) (dbus.ObjectPath, *dbus.Error) {
	b := f.enter(true)
	path, _ := m.Headers[dbus.FieldPath].Value().(dbus.ObjectPath)
	f.mu.Lock()
	if b == WritePromptDismissed {
		f.mu.Unlock()
		return promptPath, nil
	}
	if b != LoseWrites {
		delete(f.items, path)
	}
	f.mu.Unlock()
	if b == LateWrites {
		<-f.gone
	}
	return noPrompt, nil
}

// Wait returns when the fake has left the bus, or the context is done.
func (f *Fake) Wait(ctx context.Context) {
	select {
	case <-f.gone:
	case <-f.conn.Context().Done():
	case <-ctx.Done():
	}
}
