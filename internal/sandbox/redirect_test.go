package sandbox

import (
	"net/url"
	"testing"
)

// FuzzLoopbackMatch: whatever matches differs from the registered redirect in
// its port and in nothing else.
func FuzzLoopbackMatch(f *testing.F) {
	for _, given := range []string{
		"http://127.0.0.1:8/callback/x", "http://127.0.0.1:8@evil.example/callback/x", "http://127.0.0.1:/callback/x",
		"http://127.0.0.1:8/callback/x?", "http://127.0.0.1:8/callback/%78", "http://[::1]:8/callback/x", "http://127.0.0.1:8\\@evil/callback/x",
	} {
		f.Add(given)
	}
	f.Fuzz(func(t *testing.T, given string) {
		for _, host := range []string{"127.0.0.1", "[::1]"} {
			registered := "http://" + host + "/callback/x"
			if !loopbackMatch(registered, given) {
				continue
			}
			u, err := url.Parse(given)
			if err != nil || u.Port() == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
				t.Fatalf("%q matches", given)
			}
			if u.Scheme != "http" || u.Host != host+":"+u.Port() || u.EscapedPath() != "/callback/x" {
				t.Fatalf("%q matches", given)
			}
		}
	})
}
