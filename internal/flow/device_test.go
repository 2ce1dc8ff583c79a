package flow_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apiauth/apiauth/internal/flow"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/providers"
)

// deviceIssuer answers device authorization with device and each poll with the
// next of polls (the last one for ever).
type deviceIssuer struct {
	device string
	polls  []poll

	mu       sync.Mutex
	times    []time.Time
	inFlight int
	most     int
	forms    []string
}

type poll struct {
	status int
	body   string
	header map[string]string
	drop   bool // close the connection instead
	page   bool // HTML
}

func (d *deviceIssuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	w.Header().Set("Content-Type", "application/json")
	if r.URL.Path == "/device" {
		if !strings.HasPrefix(d.device, "{") {
			w.WriteHeader(http.StatusBadRequest)
			_ = json.NewEncoder(w).Encode(map[string]string{"error": d.device})
			return
		}
		_, _ = fmt.Fprint(w, d.device)
		return
	}
	d.mu.Lock()
	p := d.polls[min(len(d.times), len(d.polls)-1)]
	d.times = append(d.times, time.Now())
	d.forms = append(d.forms, r.PostForm.Encode())
	d.inFlight++
	d.most = max(d.most, d.inFlight)
	d.mu.Unlock()
	defer func() { d.mu.Lock(); d.inFlight--; d.mu.Unlock() }()
	if p.drop {
		panic(http.ErrAbortHandler)
	}
	if p.page {
		w.Header().Set("Content-Type", "text/html")
	}
	for k, v := range p.header {
		w.Header().Set(k, v)
	}
	w.WriteHeader(p.status)
	_, _ = fmt.Fprint(w, p.body)
}

// gaps returns the pauses between polls in seconds, the first one counted from
// the start.
func (d *deviceIssuer) gaps(start time.Time) []int {
	var g []int
	for _, t := range d.times {
		g = append(g, int(t.Sub(start).Round(time.Second).Seconds()))
		start = t
	}
	return g
}

// listenPipe serves HTTP over net.Pipe, which synctest's clock understands.
type listenPipe struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *listenPipe) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *listenPipe) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *listenPipe) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

func (l *listenPipe) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

const okDevice = `{"device_code":"canary-device","user_code":"WDJB-MJHT","verification_uri":"https://issuer.example/device","expires_in":900,"interval":5}`

var (
	pending  = poll{status: 400, body: `{"error":"authorization_pending"}`}
	granted  = poll{status: 200, body: `{"access_token":"canary-at","token_type":"bearer","refresh_token":"canary-rt"}`}
	slow     = poll{status: 400, body: `{"error":"slow_down"}`}
	broken   = poll{status: 503, body: `{}`}
	githubOK = poll{status: 200, body: `{"error":"authorization_pending","error_description":"wait"}`}
)

// runDevice runs the flow inside a synctest bubble.
func runDevice(ctx context.Context, t *testing.T, d *deviceIssuer, env flow.Env) (result *flow.Result, out string, err error) {
	t.Helper()
	l := &listenPipe{conns: make(chan net.Conn), done: make(chan struct{})}
	server := &http.Server{Handler: d}
	go func() { _ = server.Serve(l) }()
	h, err := oauth.NewHTTP(oauth.Options{Dial: l.dial, Proxy: http.ProxyURL(nil)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { h.Close(); _ = server.Close() }()
	var lines []string
	env.HTTP = h
	env.Out = func(format string, a ...any) { lines = append(lines, fmt.Sprintf(format, a...)) }
	a := flow.Attempt{
		Pins: providers.Pins{
			Provider: "acme", TokenEndpoint: "http://127.0.0.1:1/token", DeviceAuthorizationEndpoint: "http://127.0.0.1:1/device",
			AllowInsecureLoopback: true,
		},
		Provider: &providers.Provider{ID: "acme", Name: "Acme", DeviceNote: "Acme wants a device client."},
		Client:   oauth.Client{ID: "client-1", Method: oauth.AuthNone},
		Scopes:   []string{"read"},
	}
	result, err = flow.Device(ctx, env, a)
	return result, strings.Join(lines, "\n"), err
}

func TestDevice(t *testing.T) {
	device := func(interval, expires string) string {
		return fmt.Sprintf(`{"device_code":"canary-device","user_code":"WDJB","verification_uri":"https://issuer.example/device","expires_in":%s,"interval":%s}`, expires, interval)
	}
	cases := []struct {
		name   string
		device string
		polls  []poll
		gaps   []int
		err    error  // nil for success
		code   string // of a DeniedError or an OAuth error
	}{
		{name: "pending, then granted", polls: []poll{pending, pending, granted}, gaps: []int{5, 5, 5}},
		{name: "GitHub's errors with status 200", polls: []poll{githubOK, granted}, gaps: []int{5, 5}},
		{name: "slow down adds five seconds", polls: []poll{slow, slow, pending, granted}, gaps: []int{5, 10, 15, 15}},
		{name: "slow down with an interval", polls: []poll{{status: 200, body: `{"error":"slow_down","interval":20}`}, pending, granted}, gaps: []int{5, 20, 20}},
		{name: "slow down is bounded", device: device("58", "3600"), polls: []poll{slow, slow, granted}, gaps: []int{58, 60, 60}},
		{name: "interval below zero", device: device("-1", "900"), polls: []poll{pending, granted}},
		{name: "interval zero", device: device("0", "900"), polls: []poll{pending, granted}, gaps: []int{1, 1}},
		{name: "interval without measure", device: device("9223372036854775807", "900"), polls: []poll{pending, granted}, gaps: []int{60, 60}},
		{name: "unavailable twice", polls: []poll{broken, broken, granted}, gaps: []int{5, 10, 15}},
		{name: "connection dropped", polls: []poll{{drop: true}, pending, granted}, gaps: []int{5, 10, 5}},
		{name: "captive portal", polls: []poll{{status: 200, body: "<html>", page: true}, granted}, gaps: []int{5, 10}},
		{name: "Retry-After", polls: []poll{{status: 429, body: "{}", header: map[string]string{"Retry-After": "30"}}, granted}, gaps: []int{5, 35}},
		{name: "Retry-After without measure", polls: []poll{{status: 429, body: "{}", header: map[string]string{"Retry-After": "999999999999"}}, granted}},
		{name: "denied", polls: []poll{pending, {status: 400, body: `{"error":"access_denied"}`}}, gaps: []int{5, 5}, code: "access_denied"},
		{name: "declined, as Microsoft calls it", polls: []poll{{status: 400, body: `{"error":"authorization_declined"}`}}, gaps: []int{5}, code: "authorization_declined"},
		{name: "the code is not known", polls: []poll{{status: 400, body: `{"error":"bad_verification_code"}`}}, gaps: []int{5}, code: "bad_verification_code"},
		{name: "expired, says the issuer", polls: []poll{{status: 400, body: `{"error":"expired_token"}`}}, gaps: []int{5}, err: flow.ErrCodeExpired},
		{name: "expired, says the clock", device: device("5", "12"), polls: []poll{pending}, gaps: []int{5, 5}, err: flow.ErrCodeExpired},
		{name: "unavailable for ever", device: device("5", "60"), polls: []poll{broken}, gaps: []int{5, 10, 15, 25}, err: flow.ErrCodeExpired},
		{name: "wrong client", polls: []poll{{status: 401, body: `{"error":"invalid_client"}`}}, gaps: []int{5}, code: "invalid_client"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &deviceIssuer{device: c.device, polls: c.polls}
				if d.device == "" {
					d.device = okDevice
				}
				start := time.Now()
				result, out, err := runDevice(t.Context(), t, d, flow.Env{})
				switch {
				case c.err != nil:
					if !errors.Is(err, c.err) {
						t.Errorf("%v, want %v", err, c.err)
					}
				case c.code == "access_denied" || c.code == "authorization_declined":
					if denied, ok := errors.AsType[*flow.DeniedError](err); !ok || denied.Code != c.code {
						t.Errorf("%v, want a DeniedError", err)
					}
				case c.code != "":
					if oauth.ErrorCode(err) != c.code {
						t.Errorf("%v, want %s", err, c.code)
					}
				case err != nil:
					t.Errorf("failed: %v", err)
				default:
					token, perr := oauth.ParseToken(*result.Answer, oauth.Rules{})
					if perr != nil || token.Refresh.Reveal() != "canary-rt" || result.Via != flow.FlowDevice {
						t.Errorf("the answer is not the successful one: %v", perr)
					}
				}
				if err != nil && result != nil {
					t.Error("a result came with an error")
				}
				if got := d.gaps(start); c.gaps != nil && fmt.Sprint(got) != fmt.Sprint(c.gaps) {
					t.Errorf("pauses of %v s, want %v", got, c.gaps)
				}
				for _, g := range d.gaps(start) {
					if g < 1 || g > 120 {
						t.Errorf("a pause of %d s", g)
					}
				}
				if d.most > 1 {
					t.Errorf("%d polls at once", d.most)
				}
				if strings.Contains(out, "canary") || err != nil && strings.Contains(err.Error(), "canary") {
					t.Error("a credential was printed")
				}
				for _, f := range d.forms {
					if !strings.Contains(f, "device_code=canary-device") || !strings.Contains(f, "client_id=client-1") || strings.Contains(f, "client_secret") {
						t.Error("a poll lacks the device code or the client id, or has a secret")
					}
				}
			})
		})
	}
}

func TestDeviceShowsWhereToGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opened := make(chan string, 1)
		d := &deviceIssuer{polls: []poll{granted}, device: strings.Replace(okDevice, `"expires_in"`,
			`"verification_uri_complete":"https://issuer.example/device?user_code=WDJB-MJHT","expires_in"`, 1)}
		_, out, err := runDevice(t.Context(), t, d, flow.Env{OpenBrowser: func(_ context.Context, u string) error {
			opened <- u
			return errors.New("no browser")
		}})
		if err != nil {
			t.Fatal(err)
		}
		if u := <-opened; u != "https://issuer.example/device?user_code=WDJB-MJHT" {
			t.Errorf("opened %s", u)
		}
		for _, want := range []string{"\nhttps://issuer.example/device\n", "WDJB-MJHT", "15m0s", "could not be opened"} {
			if !strings.Contains(out, want) && !strings.Contains(strings.ReplaceAll(out, "\n", " "), want) {
				t.Errorf("%q is missing from:\n%s", want, out)
			}
		}
	})
}

func TestDeviceRefusedAtOnce(t *testing.T) {
	for device, want := range map[string]string{
		"device_flow_disabled": "switch it on",
		"unauthorized_client":  "--flow browser (Acme wants a device client)",
		"invalid_client":       "of another kind than this flow needs (Acme wants a device client)",
		"invalid_scope":        "ask for fewer",
		`{"device_code":"canary-device","user_code":"A","verification_uri":"javascript:alert(1)"}`:         "verification_uri",
		`{"device_code":"canary-device","user_code":"A","verification_uri":"https://u:p@issuer.example/"}`: "verification_uri",
		`{"device_code":"canary-device","verification_uri":"https://issuer.example/device"}`:               "user_code",
		`{"user_code":"A","verification_uri":"https://issuer.example/device"}`:                             "device_code",
	} {
		synctest.Test(t, func(t *testing.T) {
			d := &deviceIssuer{device: device, polls: []poll{granted}}
			_, out, err := runDevice(t.Context(), t, d, flow.Env{OpenBrowser: func(context.Context, string) error {
				t.Errorf("%s: the browser was opened", device)
				return nil
			}})
			if err == nil || !strings.Contains(err.Error(), want) || out != "" || len(d.times) > 0 {
				t.Errorf("%s: %v, want %q", device, err, want)
			}
		})
	}
}

func TestDeviceTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 12*time.Second)
		defer cancel()
		d := &deviceIssuer{device: okDevice, polls: []poll{pending}}
		if _, _, err := runDevice(ctx, t, d, flow.Env{}); !errors.Is(err, flow.ErrTimeout) {
			t.Errorf("%v, want ErrTimeout", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		d := &deviceIssuer{device: okDevice, polls: []poll{pending}}
		time.AfterFunc(7*time.Second, cancel)
		if _, _, err := runDevice(ctx, t, d, flow.Env{}); !errors.Is(err, context.Canceled) {
			t.Errorf("%v, want the cancellation", err)
		}
	})
}

// An answer that cannot be read may hold the tokens: it is handed on.
func TestDeviceHandsOnWhatItCannotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &deviceIssuer{device: okDevice, polls: []poll{{status: 200, body: `{"access_token":17,"refresh_token":"canary-rt"}`}}}
		result, _, err := runDevice(t.Context(), t, d, flow.Env{})
		if err != nil || result.Answer == nil {
			t.Errorf("%v, want the raw answer", err)
		}
	})
}
