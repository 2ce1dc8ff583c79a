package inject

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/secret"
	"github.com/apiauth/apiauth/test/peers"
)

func TestSpotifySDK(t *testing.T) {
	now := time.UnixMilli(1_800_000_000_250)
	for _, c := range []struct {
		expires time.Time
		want    string
	}{
		{now.Add(1799*time.Second + 900*time.Millisecond), `"expires_in": 1799, "refresh_token": "", "expires": 1800001800150`},
		{now.Add(time.Millisecond), `"expires_in": 1, "refresh_token": "", "expires": 1800000000251`},
		{time.Time{}, `"expires_in": 3600, "refresh_token": "", "expires": 1800003600250`},
	} {
		doc, err := SpotifySDK(secret.New("a<b"), c.expires, now)
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Join(strings.Fields(string(doc)), " ")
		if want := `{ "access_token": "a<b", "token_type": "Bearer", ` + c.want + ` }`; got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
}

func TestExecCredential(t *testing.T) {
	at := time.Date(2026, 11, 25, 12, 0, 0, 999, time.FixedZone("", 3600))
	for _, c := range []struct {
		info    string
		expires time.Time
		want    string // empty: refused
	}{
		{"", at, `{ "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": { "expirationTimestamp": "2026-11-25T11:00:00Z", "token": "tok" } }`},
		{`{"apiVersion":"client.authentication.k8s.io/v1beta1","kind":"ExecCredential","spec":{"interactive":true}}`, time.Time{}, `{ "apiVersion": "client.authentication.k8s.io/v1beta1", "kind": "ExecCredential", "status": { "token": "tok" } }`},
		{`{"apiVersion":"client.authentication.k8s.io/v1alpha1","kind":"ExecCredential"}`, at, ""},
		{`{"apiVersion":"client.authentication.k8s.io/v1","kind":"Other"}`, at, ""},
		{`nonsense`, at, ""},
	} {
		doc, err := ExecCredential(c.info, secret.New("tok"), c.expires)
		if got := strings.Join(strings.Fields(string(doc)), " "); got != c.want || (err != nil) != (c.want == "") {
			t.Errorf("%s: %s, %v", c.info, got, err)
		}
	}
}

// a netrc line is read as it was meant, or not written.
func TestNetrc(t *testing.T) {
	doc, err := Netrc("x", []Machine{{"git.example.com", "oauth2", "a!b=c"}, {"h", "l", "p#x"}})
	if err != nil || string(doc) != "machine git.example.com login oauth2 password a!b=c\nmachine h login l password p#x\n" {
		t.Errorf("%q, %v", doc, err)
	}
	for _, bad := range []string{"", "canary x", "canary\tx", "canary\nmachine", "canary\r", "canary\"", "canary'", "canary\\", "#canary", "canary\x00", "canary\u00e9", "canary\x7f"} {
		for _, m := range []Machine{{bad, "l", "p"}, {"h", bad, "p"}, {"h", "l", bad}} {
			doc, err := Netrc("x", []Machine{{"h", "l", "p"}, m})
			if _, ok := errors.AsType[*ValueError](err); !ok || doc != nil || strings.Contains(err.Error(), "canary") {
				t.Errorf("%q was taken: %v", bad, err)
			}
		}
	}
}

// Python's own parser reads every printable value that is not refused.
func TestNetrcInPython(t *testing.T) {
	python := peers.Program(t, "apt-get install python3", "python3")
	var values []string
	for c := '!'; c <= '~'; c++ {
		for _, v := range []string{string(c) + "x", "x" + string(c) + "y", "x" + string(c)} {
			if _, err := Netrc("x", []Machine{{"h", "l", v}}); err == nil {
				values = append(values, v)
			}
		}
	}
	if len(values) < 250 {
		t.Fatalf("only %d values are written", len(values))
	}
	file := filepath.Join(t.TempDir(), "netrc")
	var all strings.Builder
	for i, v := range values {
		doc, err := Netrc("x", []Machine{{"h" + strings.Repeat("i", i), v, v}})
		if err != nil {
			t.Fatal(err)
		}
		all.Write(doc)
	}
	if err := os.WriteFile(file, []byte(all.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	script := `import netrc,sys
n=netrc.netrc(sys.argv[1])
for i in range(int(sys.argv[2])):
    l,_,p=n.authenticators("h"+"i"*i)
    assert l==p
    print(p)`
	out, err := exec.CommandContext(t.Context(), python, "-c", script, file, strconv.Itoa(len(values))).CombinedOutput() //nolint:gosec // a fixed program
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got := strings.TrimRight(string(out), "\n"); got != strings.Join(values, "\n") {
		t.Errorf("python reads other values")
	}
}
