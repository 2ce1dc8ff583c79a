package cli

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/term"

	"github.com/apiauth/apiauth/internal/audit"
	"github.com/apiauth/apiauth/internal/inject"
	"github.com/apiauth/apiauth/internal/keyring"
	"github.com/apiauth/apiauth/internal/sandbox"
	"github.com/apiauth/apiauth/internal/secret"
)

// The test binary becomes apiauth when it is called by that name, over the real
// process' environment, with a keychain in a folder and a browser that is a
// program. Nothing of this is in the shipped binary.
//
//	APIAUTH_FAKE_KEYCHAIN       folder of the keychain; unset: there is none
//	APIAUTH_FAKE_KEYCHAIN_MODE  locked, denied, absent, lose (writes answer
//	                            success and keep nothing), no-set, hang
//	APIAUTH_FAKE_BROWSER        approve (default), deny, bob, or fail
//	APIAUTH_FAKE_CLOCK          a duration that is added to the clock
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"apiauth": func() { os.Exit(runApp()) },
	})
}

func runApp() int {
	dir, err := os.Getwd()
	if err != nil {
		dir = ""
	}
	executable, _ := os.Executable()
	offset, _ := time.ParseDuration(os.Getenv("APIAUTH_FAKE_CLOCK"))
	return Main(context.Background(), &App{
		Stdin:      os.Stdin,
		Stdout:     os.Stdout,
		Stderr:     os.Stderr,
		StdinTTY:   term.IsTerminal(int(os.Stdin.Fd())),
		StdoutTTY:  term.IsTerminal(int(os.Stdout.Fd())),
		StderrTTY:  term.IsTerminal(int(os.Stderr.Fd())),
		Terminal:   os.Stdin,
		Env:        os.LookupEnv,
		Environ:    os.Environ,
		Dir:        dir,
		Home:       os.Getenv("HOME"),
		GOOS:       runtime.GOOS,
		PID:        os.Getpid(),
		Executable: executable,
		Caller:     audit.Caller,
		Now:        func() time.Time { return time.Now().Add(offset) },
		Sleep: func(ctx context.Context, d time.Duration) error {
			t := time.NewTimer(d)
			defer t.Stop()
			select {
			case <-t.C:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		},
		Rand:         rand.Reader,
		Keychain:     folderKeychain{os.Getenv("APIAUTH_FAKE_KEYCHAIN"), os.Getenv("APIAUTH_FAKE_KEYCHAIN_MODE")},
		StartBrowser: fakeBrowser,
		Exec:         inject.Exec,
		Version:      Version{Number: "1.2.3", Commit: "0123456789abcdef0123456789abcdef01234567", Date: "2026-11-21"},
	}, os.Args[1:])
}

// folderKeychain keeps each item in a file and writes down each call, so that a
// test can see that it was left alone.
type folderKeychain struct{ dir, mode string }

func (k folderKeychain) enter(op, service, account string) (path string, err error) {
	if k.dir == "" || k.mode == "absent" {
		return "", fmt.Errorf("this test has none: %w", keyring.ErrAbsent)
	}
	if err := os.MkdirAll(k.dir, 0o700); err != nil {
		return "", err
	}
	log, err := os.OpenFile(k.dir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	_, err = fmt.Fprintf(log, "%s %s %s\n", op, service, account)
	if err := errors.Join(err, log.Close()); err != nil {
		return "", err
	}
	switch k.mode {
	case "locked":
		return "", keyring.ErrLocked
	case "denied":
		return "", keyring.ErrDenied
	case "hang":
		select {} // the adapter gives up on us
	case "no-set":
		if op == "set" {
			return "", keyring.ErrDenied
		}
	}
	return filepath.Join(k.dir, service+"@"+account), nil
}

func (k folderKeychain) Get(service, account string) (string, error) {
	path, err := k.enter("get", service, account)
	if err != nil {
		return "", err
	}
	doc, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", keyring.ErrNotFound
	}
	if err != nil {
		return "", err
	}
	// Coded, so that a search for a token in files does not meet the double of
	// the keychain.
	value, err := base64.StdEncoding.DecodeString(string(doc))
	return flip(string(value)), err
}

func (k folderKeychain) Set(service, account, value string) error {
	path, err := k.enter("set", service, account)
	if err != nil || k.mode == "lose" {
		return err
	}
	temp := path + ".tmp"
	if err := os.WriteFile(temp, []byte(base64.StdEncoding.EncodeToString([]byte(flip(value)))), 0o600); err != nil {
		return err
	}
	return os.Rename(temp, path)
}

func (k folderKeychain) Delete(service, account string) error {
	path, err := k.enter("delete", service, account)
	if err != nil || k.mode == "lose" {
		return err
	}
	if err := os.Remove(path); errors.Is(err, fs.ErrNotExist) {
		return keyring.ErrNotFound
	}
	return err
}

func flip(s string) string {
	b := []byte(s)
	for i := range b {
		b[i] ^= 0x5a
	}
	return string(b)
}

// fakeBrowser asks the visitor of the script's sandbox to walk the login, and
// comes back when it has done so.
func fakeBrowser(ctx context.Context, argv []string) error {
	choice := os.Getenv("APIAUTH_FAKE_BROWSER")
	if choice == "fail" {
		return errors.New("no display")
	}
	target := argv[len(argv)-1]
	visitor := os.Getenv("SANDBOX_VISITOR")
	if visitor == "" {
		return errors.New("the script has no sandbox")
	}
	ctx = context.WithoutCancel(ctx)
	go func() {
		form := url.Values{"url": {target}, "choice": {choice}}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, visitor, strings.NewReader(form.Encode()))
		if err != nil {
			return
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			_ = resp.Body.Close()
		}
	}()
	return nil
}

type serverKey struct{}

// holder is where a script's sandbox is kept.
type holder struct{ server *sandbox.Server }

// quickExit keeps the race detector from waiting a second at the end of every
// process, for races that happen then.
const quickExit = "atexit_sleep_ms=0"

func scripts(t *testing.T, dir string) {
	t.Helper()
	testscript.Run(t, testscript.Params{
		Dir:                dir,
		RequireUniqueNames: true,
		UpdateScripts:      os.Getenv("UPDATE") != "",
		Setup: func(env *testscript.Env) error {
			home := filepath.Join(env.WorkDir, "home")
			for _, dir := range []string{home, filepath.Join(env.WorkDir, "site")} {
				if err := os.MkdirAll(dir, 0o700); err != nil {
					return err
				}
			}
			for name, value := range map[string]string{
				"HOME":                  home,
				"APIAUTH_CONFIG_DIR":    filepath.Join(home, "config"),
				"APIAUTH_STATE_DIR":     filepath.Join(home, "state"),
				"APIAUTH_FAKE_KEYCHAIN": filepath.Join(env.WorkDir, "keychain"),
				"BROWSER":               "apiauth",
				"NO_COLOR":              "1",
				"GORACE":                quickExit,
			} {
				env.Setenv(name, value)
			}
			env.Values[serverKey{}] = new(holder)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"sandbox":  cmdSandbox,
			"accepts":  cmdAccepts,
			"faults":   cmdFaults,
			"requests": cmdRequests,
			"visit":    cmdVisit,
			"takeport": cmdPort,
			"perm":     cmdPerm,
			"linkto":   cmdLinkTo,
			"says":     cmdSays,
			"gitforge": cmdGitForge,
			"robot":    cmdRobot,
		},
	})
}

// cmdSandbox starts an issuer for this script and defines it as the provider
// "sandbox" (public client) and "machine" (confidential client):
//
//	sandbox [ttl=1h] [rotate] [grace=5s] [fail=NAME] [basic]
//
// SANDBOX_ISSUER, SANDBOX_API, SANDBOX_CLIENT_ID and SANDBOX_MACHINE_ID are set,
// and the machine's secret lies in machine.secret.
func cmdSandbox(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("sandbox cannot be negated")
	}
	o := sandbox.Options{DeviceInterval: time.Second}
	for _, arg := range args {
		name, value, _ := strings.Cut(arg, "=")
		var err error
		switch name {
		case "ttl":
			o.TokenTTL, err = time.ParseDuration(value)
		case "grace":
			o.Grace, err = time.ParseDuration(value)
		case "rotate":
			o.RotateRefresh = true
		case "basic":
			o.ClientSecretBasic = true
		case "fail":
			o.Fail = append(o.Fail, value)
		default:
			ts.Fatalf("sandbox: unknown option %q", arg)
		}
		ts.Check(err)
	}
	s, err := sandbox.Start(context.Background(), o)
	ts.Check(err)
	ts.Defer(func() { _ = s.Close() })
	visitor := httptest.NewServer(visit(s))
	ts.Defer(visitor.Close)
	ts.Value(serverKey{}).(*holder).server = s

	dir := filepath.Join(ts.Getenv("APIAUTH_CONFIG_DIR"), "providers")
	ts.Check(os.MkdirAll(dir, 0o700))
	ts.Check(os.WriteFile(filepath.Join(dir, "sandbox.yaml"), s.ProviderYAML("sandbox"), 0o600))
	ts.Check(os.WriteFile(filepath.Join(dir, "machine.yaml"), s.ConfidentialYAML("machine"), 0o600))
	id, secret := s.ConfidentialClient()
	ts.Check(os.WriteFile(ts.MkAbs("machine.secret"), []byte(secret.Reveal()+"\n"), 0o600))
	ts.Setenv("SANDBOX_ISSUER", s.Issuer())
	ts.Setenv("SANDBOX_API", s.APIBase())
	ts.Setenv("SANDBOX_CLIENT_ID", s.ClientID())
	ts.Setenv("SANDBOX_MACHINE_ID", id)
	ts.Setenv("SANDBOX_VISITOR", visitor.URL)
}

// cmdAccepts makes the lines of files the secrets of the confidential client:
//
//	accepts FILE [FILE]
func cmdAccepts(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: accepts FILE [FILE]")
	}
	var all []secret.Text
	for _, file := range args {
		all = append(all, secret.New(strings.TrimSpace(ts.ReadFile(file))))
	}
	server(ts).AcceptSecrets(all[0], all[1:]...)
}

// visit is the person in front of the browser.
func visit(s *sandbox.Server) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var c sandbox.Choice
		switch r.FormValue("choice") {
		case "deny":
			c.Deny = true
		case "bob":
			c.Account = "bob"
		}
		var err error
		if code := r.FormValue("user_code"); code != "" {
			err = s.AnswerDevice(r.Context(), code, c)
		} else {
			err = s.Answer(r.Context(), r.FormValue("url"), c)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
		}
	})
}

func server(ts *testscript.TestScript) *sandbox.Server {
	s := ts.Value(serverKey{}).(*holder).server
	if s == nil {
		ts.Fatalf("the script has not started a sandbox")
	}
	return s
}

// cmdFaults replaces the issuer's fault switches: faults [NAME...]
func cmdFaults(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(server(ts).SetFaults(args...))
}

// cmdRequests compares the issuer's counters: requests token_requests=1 ...
func cmdRequests(ts *testscript.TestScript, neg bool, args []string) {
	doc, err := json.Marshal(server(ts).Stats())
	ts.Check(err)
	var got map[string]int
	ts.Check(json.Unmarshal(doc, &got))
	for _, arg := range args {
		name, want, _ := strings.Cut(arg, "=")
		n, ok := got[name]
		if !ok {
			ts.Fatalf("requests: the sandbox does not count %q", name)
		}
		if (fmt.Sprint(n) == want) == neg {
			ts.Fatalf("the issuer counted %s=%d, want %s", name, n, want)
		}
	}
}

// cmdVisit opens a URL of the issuer by hand, or types a user code:
//
//	visit [approve|deny|bob] FILE
//
// FILE holds output of apiauth; the first authorization URL or user code in it
// is used.
func cmdVisit(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: visit approve|deny|bob FILE")
	}
	form := url.Values{"choice": {args[0]}}
	for word := range strings.FieldsSeq(ts.ReadFile(args[1])) {
		if strings.HasPrefix(word, server(ts).Issuer()+"/authorize?") {
			form.Set("url", word)
		}
		if len(word) == 9 && word[4] == '-' && word == strings.ToUpper(word) {
			form.Set("user_code", word)
		}
	}
	jar, err := cookiejar.New(nil)
	ts.Check(err)
	resp, err := (&http.Client{Jar: jar}).PostForm(ts.Getenv("SANDBOX_VISITOR"), form)
	ts.Check(err)
	ts.Check(resp.Body.Close())
}

// cmdPort takes a free port of loopback for the rest of the script and puts its
// number into a variable: takeport NAME
func cmdPort(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: takeport NAME")
	}
	s := httptest.NewServer(http.NotFoundHandler())
	ts.Defer(s.Close)
	u, err := url.Parse(s.URL)
	ts.Check(err)
	ts.Setenv(args[0], u.Port())
}

// cmdPerm checks the permissions of files: perm 600 FILE...
func cmdPerm(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: perm MODE FILE...")
	}
	if runtime.GOOS == "windows" {
		return
	}
	for _, file := range args[1:] {
		info, err := os.Stat(ts.MkAbs(file))
		ts.Check(err)
		if got := fmt.Sprintf("%o", info.Mode().Perm()); got != args[0] {
			ts.Fatalf("%s has mode %s, want %s", file, got, args[0])
		}
	}
}

// cmdLinkTo binds a folder to the project of a "project show --json":
//
//	linkto FILE FOLDER
func cmdLinkTo(ts *testscript.TestScript, _ bool, args []string) {
	var p struct {
		ID string `json:"id"`
	}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &p))
	ts.Check(ts.Exec("apiauth", "-C", ts.MkAbs(args[1]), "project", "link", "--project", p.ID))
}

// cmdSays is stderr for messages that are broken into lines: it matches what
// was there before.
//
//	says PATTERN
func cmdSays(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: says PATTERN")
	}
	re, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	var b strings.Builder
	message := false
	for line := range strings.Lines(ts.ReadFile("stderr")) {
		if message && strings.HasPrefix(line, "  ") {
			b.WriteString(" " + strings.TrimRight(line[2:], "\n"))
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('\n')
		}
		message = strings.HasPrefix(line, "apiauth: ")
		b.WriteString(strings.TrimRight(line, "\n"))
	}
	if re.MatchString(b.String()) == neg {
		ts.Fatalf("%q is (not) in stderr:\n%s", args[0], b.String())
	}
}
