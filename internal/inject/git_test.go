package inject

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/secret"
)

func TestParseGitRequest(t *testing.T) {
	// What git 2.46 and later send, and what older ones do.
	full := "capability[]=authtype\ncapability[]=state\nprotocol=https\nhost=git.example.com:8443\npath=me/repo.git\nusername=oauth2\n" +
		"wwwauth[]=Bearer realm=\"x\"\nwwwauth[]=Basic realm=\"y\"\nstate[]=other:1\ncontinue=1\n\n"
	for input, want := range map[string]GitRequest{
		full:                                         {Protocol: "https", Host: "git.example.com:8443", Path: "me/repo.git", Username: "oauth2"},
		"protocol=https\nhost=a\n":                   {Protocol: "https", Host: "a"},
		"protocol=https\nhost=a":                     {Protocol: "https", Host: "a"},
		"protocol=https\nhost=a\n\nx=y":              {Protocol: "https", Host: "a"},
		"host=a\nhost=b\nprotocol=\n":                {Host: "b"},
		"url=https://me@git.example.com:1/x/y.git\n": {Protocol: "https", Host: "git.example.com:1", Path: "x/y.git", Username: "me"},
		"path=a=b\n":                                 {Path: "a=b"},
		"":                                           {},
		"\nhost=evil":                                {},
	} {
		got, err := ParseGitRequest(strings.NewReader(input))
		if err != nil || got != want {
			t.Errorf("%q is %+v, %v; want %+v", input, got, err, want)
		}
	}
	for _, bad := range []string{
		"host", "=x\n", "host=a\x00b\n", "host=a\r\n", "url=::\n", "url=/path\n", "protocol=https\nnonsense\n",
		"path=" + strings.Repeat("x", maxGitInput),
	} {
		if got, err := ParseGitRequest(strings.NewReader(bad)); err == nil {
			t.Errorf("%.40q is %+v", bad, got)
		}
	}
}

// the answer is lines of git's protocol, or refused.
func TestGitAnswer(t *testing.T) {
	var b bytes.Buffer
	answer := GitAnswer{Username: "oauth2", Token: secret.New("a=b!c"), Expires: time.Unix(1_800_000_000, 999)}
	if err := answer.Write(&b, "x"); err != nil || b.String() != "username=oauth2\npassword=a=b!c\npassword_expiry_utc=1800000000\n" {
		t.Errorf("%q, %v", b.String(), err)
	}
	b.Reset()
	answer.Expires = time.Time{}
	if err := answer.Write(&b, "x"); err != nil || b.String() != "username=oauth2\npassword=a=b!c\n" {
		t.Errorf("%q, %v", b.String(), err)
	}
	for _, bad := range []string{"", "canary\nhost=evil", "canary\rx", "canary\x00"} {
		b.Reset()
		err := GitAnswer{Username: "oauth2", Token: secret.New(bad)}.Write(&b, "x")
		if _, ok := errors.AsType[*ValueError](err); !ok || b.Len() > 0 || strings.Contains(err.Error(), "canary") {
			t.Errorf("%v, and %d bytes were written", err, b.Len())
		}
		if err := (GitAnswer{Username: bad, Token: secret.New("t")}).Write(&b, "x"); err == nil {
			t.Errorf("the user name %q was written", bad)
		}
	}
}

// What was parsed and is written again is parsed to the same.
func FuzzParseGitRequest(f *testing.F) {
	f.Add("protocol=https\nhost=a:1\npath=x\nusername=u\nwwwauth[]=Basic\n\n")
	f.Add("url=https://u@a/b\n")
	f.Fuzz(func(t *testing.T, input string) {
		q, err := ParseGitRequest(strings.NewReader(input))
		if err != nil {
			return
		}
		if strings.ContainsAny(q.Protocol+q.Host+q.Path+q.Username, "\n\x00") {
			if !strings.Contains(input, "url=") {
				t.Fatalf("%+v holds line ends", q)
			}
			return
		}
		again, err := ParseGitRequest(strings.NewReader("protocol=" + q.Protocol + "\nhost=" + q.Host + "\npath=" + q.Path + "\nusername=" + q.Username + "\n"))
		if err == nil && again != q {
			t.Fatalf("%+v became %+v", q, again)
		}
	})
}
