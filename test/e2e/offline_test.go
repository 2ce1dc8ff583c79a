//go:build unix

package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/apiauth/apiauth/internal/keyring/keyringtest"
	"github.com/apiauth/apiauth/internal/sandbox"
	"github.com/apiauth/apiauth/test/peers"
)

// While the access token lives, nothing needs the issuer.
func TestWithoutNetwork(t *testing.T) {
	t.Parallel()
	is := peers.Issuer(t, peers.IssuerOptions{})
	p := newPerson(t, keyringtest.StartGnomeKeyring(t, keyringtest.Unlocked))
	tap := newTap(t, is.URL+"/token")
	p.addProvider(definition("peer", is, tap.url, is.Public, "client_id: "+is.Public.ID+"\n"))
	if r := visitConnect(p, &peers.Visitor{}, "peer"); r.code != 0 {
		t.Fatal(r.redacted())
	}
	live := tap.lastAccess()
	is.Stop()
	// A dead proxy stands for a machine without any network.
	q := p.as("HTTPS_PROXY", "http://127.0.0.1:9", "HTTP_PROXY", "http://127.0.0.1:9")
	if got := q.must("token", "peer").token(); got != live {
		t.Error("token printed something else")
	}
	if got := q.must("exec", "-c", "peer", "--", "printenv", "PEER_ACCESS_TOKEN").token(); got != live {
		t.Error("exec handed over something else")
	}
	if r := q.must("env", "-c", "peer", "--format", "dotenv"); !strings.Contains(r.out, live) {
		t.Error("env holds something else")
	}
	for _, args := range [][]string{{"status"}, {"list"}, {"__complete", "token", ""}} {
		if r := q.must(args...); !strings.Contains(r.out, "peer") {
			t.Error(r.redacted())
		}
	}
	// Where the issuer is needed it is a temporary failure, and nothing is lost.
	if r := q.run("token", "peer", "--refresh"); r.code != 3 || r.out != "" || !strings.Contains(r.err, "nothing was lost") {
		t.Error(r.redacted())
	}
	if got := q.must("token", "peer").token(); got != live {
		t.Error("the failed refresh cost the token that lives")
	}
}

// What only shows names and headers wakes no keychain: it answers at once where
// the keychain never does, and sends it nothing.
func TestTheKeychainIsNotWoken(t *testing.T) {
	t.Parallel()
	h := newHouse(t, sandbox.Options{})
	bus := keyringtest.StartBus(t)
	fake := keyringtest.StartFake(t, bus, keyringtest.OK)
	p := newPerson(t, bus)
	p.addProvider(h.definition("peer"))
	h.mustConnect(p, "peer")
	p.write("apiauth.yaml", manifest)
	h.mustConnect(p, "peer")
	p.must("token", "peer")

	fake.Behave(keyringtest.HangAlways)
	calls := watchKeychain(t, bus)
	for _, args := range [][]string{
		{"status"}, {"status", "--json"}, {"status", "peer"}, {"list"}, {"list", "--json"}, {"--personal", "list"},
		{"__complete", "token", ""}, {"__complete", "connect", ""}, {"__complete", "exec", "-c", ""}, {"__complete", "disconnect", "p"},
		{"project", "show"}, {"provider", "list"}, {"provider", "show", "peer"}, {"paths"}, {"version"}, {"--help"}, {"completion", "bash"},
		{"client", "list"},
	} {
		r := p.run(args...)
		if r.code != 0 || r.took > 5*time.Second {
			t.Errorf("took %v: %s", r.took, r.redacted())
		}
		if len(args) > 1 && args[0] == "__complete" && !strings.Contains(r.out, "peer") {
			t.Errorf("the connection is not completed: %s", r.redacted())
		}
	}
	if seen := calls(); len(seen) > 0 {
		t.Errorf("the keychain was called: %v", seen)
	}
	// The watch itself works: token needs the keychain.
	if r := p.run("token", "peer"); r.code != 5 || r.took > 10*time.Second {
		t.Errorf("took %v: %s", r.took, r.redacted())
	}
	if len(calls()) == 0 {
		t.Error("the watch saw no call of token: it proves nothing")
	}
}

// watchKeychain listens on the whole bus, and returns what was sent to the
// Secret Service since.
func watchKeychain(t testing.TB, b *keyringtest.Bus) func() []string {
	t.Helper()
	conn, err := dbus.Connect(b.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.Monitoring.BecomeMonitor", 0, []string{"type='method_call'"}, uint32(0)).Err; err != nil {
		t.Fatalf("watch the bus: %v", err)
	}
	messages := make(chan *dbus.Message, 4096)
	conn.Eavesdrop(messages)
	marker, err := dbus.Connect(b.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = marker.Close() })
	return func() (seen []string) {
		t.Helper()
		// Messages come in their order: when the mark is here, all before it are.
		marker.BusObject().Go("org.apiauth.Test.Mark", dbus.FlagNoReplyExpected, nil)
		limit := time.NewTimer(patience)
		defer limit.Stop()
		for {
			select {
			case m := <-messages:
				member, _ := m.Headers[dbus.FieldMember].Value().(string)
				to, _ := m.Headers[dbus.FieldDestination].Value().(string)
				switch {
				case member == "Mark":
					return seen
				case m.Type == dbus.TypeMethodCall && to != "org.freedesktop.DBus":
					seen = append(seen, member)
				}
			case <-limit.C:
				t.Fatal("the watch on the bus does not see what it sends itself")
			}
		}
	}
}

// The same with the real keychain, watched on its bus.
func TestTheRealKeychainIsNotWoken(t *testing.T) {
	t.Parallel()
	h := newHouse(t, sandbox.Options{})
	p := newPerson(t, keyringtest.StartGnomeKeyring(t, keyringtest.Unlocked))
	p.addProvider(h.definition("peer"))
	h.mustConnect(p, "peer")
	calls := watchKeychain(t, p.bus)
	for _, args := range [][]string{{"status"}, {"list"}, {"__complete", "token", ""}} {
		if r := p.must(args...); !strings.Contains(r.out, "peer") {
			t.Error(r.redacted())
		}
	}
	if seen := calls(); len(seen) > 0 {
		t.Errorf("the keychain was called: %v", seen)
	}
	p.must("token", "peer")
	if len(calls()) == 0 {
		t.Error("the watch saw no call of token: it proves nothing")
	}
}
