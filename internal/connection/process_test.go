package connection_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/sandbox"
	"github.com/apiauth/apiauth/internal/store"
)

// childSpec makes the test binary one process that asks for a token.
const childSpec = "APIAUTH_TEST_TOKEN_PROCESS"

type spec struct {
	Dir, Store, Providers, Name string
	Now                         time.Time
	Refresh                     bool
	KillAt                      int
}

// child prints the hash of the token that it got.
func child(doc string) int {
	var p spec
	if err := json.Unmarshal([]byte(doc), &p); err != nil {
		return 90
	}
	s, err := store.Open(storeOptions(p.Dir, nil), p.Store)
	if err != nil {
		return 91
	}
	client, err := oauth.NewHTTP(oauth.Options{Now: func() time.Time { return p.Now }})
	if err != nil {
		return 92
	}
	c := &crash{at: p.KillAt, end: func() {
		self, _ := os.FindProcess(os.Getpid())
		_ = self.Kill()
		select {}
	}}
	src := &connection.Source{
		Store: crashStore{s, c}, Project: projectID, Issuer: crashIssuer{client, c}, Definitions: providers.Open(p.Providers),
		Run: fmt.Sprint("child", os.Getpid()), PID: os.Getpid(), Now: func() time.Time { return p.Now },
		Sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
	}
	a, err := src.Token(context.Background(), p.Name, connection.Option{Refresh: p.Refresh})
	if err != nil {
		_, _ = os.Stderr.WriteString(err.Error()) //nolint:forbidigo // read by the parent
		return 1
	}
	sum := sha256.Sum256([]byte(a.Token.Reveal()))
	_, _ = os.Stdout.WriteString(hex.EncodeToString(sum[:])) //nolint:forbidigo // read by the parent
	return 0
}

// spawn starts a process; wait returns what it printed.
func (r *rig) spawn(name string, killAt int) (wait func() (string, error)) {
	r.Helper()
	doc, err := json.Marshal(spec{Dir: r.opt.Dir, Store: r.store.ID(), Providers: r.definitions, Name: name, Now: r.clock.now(), KillAt: killAt})
	r.must(err)
	cmd := exec.CommandContext(r.Context(), os.Args[0])       //nolint:gosec // the test binary itself
	cmd.Env = append(os.Environ(), childSpec+"="+string(doc)) //nolint:forbidigo // for the child
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	r.must(cmd.Start())
	return func() (string, error) {
		if err := cmd.Wait(); err != nil {
			return "", fmt.Errorf("%w: %s", err, problems.String())
		}
		return out.String(), nil
	}
}

func TestProcessesAtOnce(t *testing.T) {
	for _, count := range []int{2, 20, 100} {
		t.Run(fmt.Sprint(count), func(t *testing.T) {
			r := start(t, strict(), store.KindFile)
			r.connect("a")
			r.clock.add(pastExpiry)
			if n := r.requests(func() {
				// They wait at the lock until all are there, or nearly.
				guard, err := r.store.Lock(t.Context(), connection.Key{Project: projectID, Name: "a"}, 0)
				r.must(err)
				var waits []func() (string, error)
				for range count {
					waits = append(waits, r.spawn("a", 0))
				}
				guard.Unlock()
				seen := map[string]bool{}
				for _, wait := range waits {
					got, err := wait()
					if err != nil {
						t.Error(err)
					}
					seen[got] = true
				}
				if len(seen) != 1 {
					t.Errorf("%d different tokens", len(seen))
				}
			}); n != 1 {
				t.Errorf("%d requests for %d processes", n, count)
			}
			if a := r.alive("a"); a.Refreshed || r.issuer.Stats().Reuse != 0 {
				t.Error("the token was not the stored one")
			}
		})
	}
}

func TestProcessKilled(t *testing.T) { // kill -9 for real
	r := start(t, sandbox.Options{RotateRefresh: true, Grace: time.Minute}, store.KindFile)
	for n := 1; ; n++ {
		name := fmt.Sprintf("c%d", n)
		r.connect(name)
		r.clock.add(pastExpiry)
		if _, err := r.spawn(name, n)(); err == nil {
			if n < 8 {
				t.Errorf("only %d points", n)
			}
			break
		}
		r.alive(name)
		r.clock.add(pastExpiry)
		r.alive(name)
	}
	if n := r.issuer.Stats().Reuse; n != 0 {
		t.Errorf("%d reuses", n)
	}
	left, err := filepath.Glob(filepath.Join(r.store.Dir(), projectID, "*.wal"))
	if err != nil || len(left) != 0 {
		t.Errorf("write-ahead files left: %d, %v", len(left), err)
	}
}
