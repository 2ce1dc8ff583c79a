package inject

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/apiauth/apiauth/internal/secret"
)

func TestVarName(t *testing.T) {
	for _, c := range []struct {
		connection, provider, env, override string
		want                                string // empty: a *NameError
	}{
		{"spotify", "spotify", "SPOTIFY_ACCESS_TOKEN", "", "SPOTIFY_ACCESS_TOKEN"},
		{"github", "github", "GITHUB_TOKEN", "", "GITHUB_TOKEN"},
		{"github-work", "github", "GITHUB_TOKEN", "", "GITHUB_WORK_ACCESS_TOKEN"},
		{"github", "github", "GITHUB_TOKEN", "MY_TOKEN", "MY_TOKEN"},
		{"box", "box", "", "", "BOX_ACCESS_TOKEN"},
		{"1password", "x", "", "", "_1PASSWORD_ACCESS_TOKEN"},
		{"3-d", "x", "", "", "_3_D_ACCESS_TOKEN"},
		{"a", "a", "", "lower", ""},
		{"a", "a", "", "1X", ""},
		{"a", "a", "", "_X", ""},
		{"a", "a", "", "X=Y", ""},
		{"a", "a", "", "X Y", ""},
		{"a", "a", "", "X;id", ""},
		{"a", "a", "", "X\n", ""},
		{"a", "a", "", "É", ""},
		{"a", "a", "", strings.Repeat("X", 129), ""},
		{"a b", "x", "", "", ""},
		{"", "x", "", "", ""},
	} {
		got, err := VarName(c.connection, c.provider, c.env, c.override)
		if c.want == "" {
			if _, ok := errors.AsType[*NameError](err); !ok {
				t.Errorf("VarName(%q, override %q) = %q, %v; want a *NameError", c.connection, c.override, got, err)
			}
			continue
		}
		if err != nil || got != c.want {
			t.Errorf("VarName(%q, %q, %q, %q) = %q, %v; want %q", c.connection, c.provider, c.env, c.override, got, err, c.want)
		}
	}
}

func TestKeptVarName(t *testing.T) {
	for _, c := range []struct{ connection, field, want string }{
		{"salesforce", "instance_url", "SALESFORCE_INSTANCE_URL"},
		{"sf-work", "instance-url", "SF_WORK_INSTANCE_URL"},
		{"1x", "a.b", "_1X_A_B"},
		{"stripe", "stripe_user_id", "STRIPE_STRIPE_USER_ID"},
		{"x", "", ""},
		{"x", "a=b", ""},
		{"x", "a\nb", ""},
	} {
		got, err := KeptVarName(c.connection, c.field)
		if c.want == "" {
			if _, ok := errors.AsType[*NameError](err); !ok {
				t.Errorf("KeptVarName(%q, %q) = %q, %v; want a *NameError", c.connection, c.field, got, err)
			}
			continue
		}
		if err != nil || got != c.want {
			t.Errorf("KeptVarName(%q, %q) = %q, %v; want %q", c.connection, c.field, got, err, c.want)
		}
	}
}

func TestBuild(t *testing.T) {
	vars, err := Build([]Entry{
		{Connection: "salesforce", ProviderID: "salesforce", Token: secret.New("t1"), Kept: map[string]string{"instance_url": "https://a.example", "id": "7"}},
		{Connection: "gh", ProviderID: "github", Override: "GITHUB_TOKEN", Token: secret.New("t2")},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, v := range vars {
		got = append(got, v.Name+"/"+v.Connection+"/"+v.Field)
	}
	want := []string{"SALESFORCE_ACCESS_TOKEN/salesforce/", "SALESFORCE_ID/salesforce/id", "SALESFORCE_INSTANCE_URL/salesforce/instance_url", "GITHUB_TOKEN/gh/"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestBuildRefuses(t *testing.T) {
	noGit := func(name string) error {
		if strings.HasPrefix(name, "GIT_") || name == "NODE_OPTIONS" {
			return errors.New("git or node would obey it")
		}
		return nil
	}
	token := secret.New("canary-7f3a")
	conflict := func(err error) bool { _, ok := errors.AsType[*ConflictError](err); return ok }
	badName := func(err error) bool { _, ok := errors.AsType[*NameError](err); return ok }
	badValue := func(err error) bool { _, ok := errors.AsType[*ValueError](err); return ok }
	for _, c := range []struct {
		name    string
		entries []Entry
		is      func(error) bool
	}{
		{"two on one variable", []Entry{{Connection: "a", Override: "T", Token: token}, {Connection: "b", Override: "T", Token: token}}, conflict},
		{"a derived name meets an override", []Entry{{Connection: "a", Token: token}, {Connection: "b", Override: "A_ACCESS_TOKEN", Token: token}}, conflict},
		{"names that differ by dash and underscore", []Entry{{Connection: "a", Override: "A_B_ACCESS_TOKEN", Token: token}, {Connection: "a-b", Token: token}}, conflict},
		{"a kept field meets a token", []Entry{{Connection: "a", Token: token, Kept: map[string]string{"access_token": "x"}}}, conflict},
		{"refused override", []Entry{{Connection: "a", Override: "GIT_SSH_COMMAND", Token: token}}, badName},
		{"refused derived name", []Entry{{Connection: "git", Token: token}}, badName},
		{"refused kept field", []Entry{{Connection: "node", Token: token, Kept: map[string]string{"options": "--require x"}}}, badName},
		{"empty token", []Entry{{Connection: "a"}}, badValue},
		{"NUL in the token", []Entry{{Connection: "a", Token: secret.New("canary-7f3a\x00b")}}, badValue},
		{"NUL in a kept field", []Entry{{Connection: "a", Token: token, Kept: map[string]string{"f": "canary-7f3a\x00"}}}, badValue},
	} {
		vars, err := Build(c.entries, noGit)
		if !c.is(err) || vars != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), "canary") {
			t.Errorf("%s: the error holds the value", c.name)
		}
	}
}

func TestChildEnv(t *testing.T) {
	base := []string{
		"PATH=/bin", "HOME=/h", "TOKEN=old", "TOKEN=older", "token=lower", "odd", "=C:=C:\\x",
		"APIAUTH_STORE_PASSPHRASE=s", "APIAUTH_STORE_PASSPHRASE_FILE=s", "APIAUTH_STORE_KEY=s", "APIAUTH_STORE_KEY_FILE=s",
		"APIAUTH_STORE_KEY_NEW=s", "APIAUTH_STORE_KEY_NEW_FILE=s", "APIAUTH_STORE_PASSPHRASE_NEW=s", "APIAUTH_STORE_PASSPHRASE_NEW_FILE=s",
		"APIAUTH_BUNDLE=s", "APIAUTH_BUNDLE_KEY=s", "APIAUTH_CLIENT_SECRET_SPOTIFY=s", "APIAUTH_CLIENT_SECRET_X_FILE=s", "APIAUTH_PROXY_KEY=s",
		"Apiauth_Bundle=mixed",
		"APIAUTH_STORE=file", "APIAUTH_CLIENT_ID_X=public",
	}
	vars := []Var{{Name: "TOKEN", Value: secret.New("new=1")}, {Name: "B", Value: secret.New("b")}}
	want := []string{"PATH=/bin", "HOME=/h", "token=lower", "odd", "=C:=C:\\x", "Apiauth_Bundle=mixed", "APIAUTH_STORE=file", "APIAUTH_CLIENT_ID_X=public", "TOKEN=new=1", "B=b"}
	if got := childEnv(base, vars, false); !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	want = []string{"PATH=/bin", "HOME=/h", "odd", "=C:=C:\\x", "APIAUTH_STORE=file", "APIAUTH_CLIENT_ID_X=public", "TOKEN=new=1", "B=b"}
	if got := childEnv(base, vars, true); !slices.Equal(got, want) {
		t.Errorf("names that fold: got %q\nwant %q", got, want)
	}
}
