package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/apiauth/apiauth/internal/dashboard"
	"github.com/apiauth/apiauth/internal/flow"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/project"
	"github.com/apiauth/apiauth/internal/secret"
)

// pageLogin is a login that was begun on the page.
type pageLogin struct {
	login  dashboard.Login // guarded by dashboardWork.mu
	said   *transcript
	cancel context.CancelFunc
	moved  chan struct{} // closed when the person can go on
	pasted chan string   // final addresses
	once   sync.Once
}

func (l *pageLogin) move() { l.once.Do(func() { close(l.moved) }) }

// transcript takes down what a command says.
type transcript struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write adds to it.
func (t *transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.b.Len() < 64<<10 {
		t.b.Write(p)
	}
	return len(p), nil
}

// lines is what was said, a message each.
func (t *transcript) lines() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []string
	for line := range strings.SplitSeq(t.b.String(), "\n") {
		text := strings.TrimSpace(line)
		for _, prefix := range []string{"apiauth: note: ", "apiauth: "} {
			text = strings.TrimPrefix(text, prefix)
		}
		switch {
		case text == "":
		case strings.HasPrefix(line, "  ") && len(list) > 0:
			list[len(list)-1] += " " + text
		default:
			list = append(list, text)
		}
	}
	return list
}

// Logins copies the logins for one page.
func (d *dashboardWork) Logins() []dashboard.Login {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := make([]dashboard.Login, 0, len(d.list))
	for _, l := range d.list {
		shown := l.login
		// The page has a link for the address of the login.
		shown.Lines = slices.DeleteFunc(l.said.lines(), func(line string) bool { return line == shown.URL })
		list = append(list, shown)
	}
	return list
}

// GiveUp ends the login of a name and takes it off the page.
func (d *dashboardWork) GiveUp(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.list = slices.DeleteFunc(d.list, func(l *pageLogin) bool {
		if l.login.Name == name {
			l.cancel()
		}
		return l.login.Name == name
	})
}

// canPaste notes whether a login takes a final address.
func (d *dashboardWork) canPaste(l *pageLogin, can bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l.login.Paste = can
}

// Paste gives a final address to the login that waits for it. What is wrong with
// it, the login says itself.
func (d *dashboardWork) Paste(name string, address secret.Text) error {
	d.mu.Lock()
	at := slices.IndexFunc(d.list, func(l *pageLogin) bool { return l.login.Name == name && l.login.Paste })
	var l *pageLogin
	if at >= 0 {
		l = d.list[at]
	}
	d.mu.Unlock()
	if l != nil {
		select {
		case l.pasted <- address.Reveal():
			return nil
		case <-d.ctx.Done():
		case <-time.After(time.Second): // it has ended just now
		}
	}
	return fmt.Errorf("no login to %q waits for an address", oauth.Clean(name))
}

// Connect begins a login, in place of an earlier one of the same name.
func (d *dashboardWork) Connect(ctx context.Context, o dashboard.Order) error {
	if !project.ValidName(o.Name) {
		return fmt.Errorf("%q is no connection name: use lower case letters, digits and hyphens", oauth.Clean(o.Name))
	}
	switch _, err := keyEnd(o.Expires, d.g.app.Now()); {
	case err != nil:
		return fmt.Errorf("the day on which the key ends: %w", err)
	case o.Expires != "" && o.Key.IsZero():
		return errors.New("the day on which it ends goes with a key: how long a login lasts is told by its provider")
	}
	name := oauth.Clean(o.Provider)
	if def, err := d.ws.catalogue.Get(o.Provider); err == nil {
		name = oauth.Clean(def.Name)
	}
	d.GiveUp(o.Name)
	run, cancel := context.WithCancel(d.ctx)
	l := &pageLogin{
		login: dashboard.Login{Name: o.Name, Provider: name, State: dashboard.LoginWaiting},
		said:  new(transcript), cancel: cancel, moved: make(chan struct{}), pasted: make(chan string),
	}
	g := d.globals(l.said, o.Key.Reveal())
	g.app.ReadPaste = func(ctx context.Context) (string, error) {
		d.canPaste(l, true)
		defer d.canPaste(l, false)
		select {
		case line := <-l.pasted:
			return line, nil
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	g.app.Approve = func(_ context.Context, link string) error {
		d.mu.Lock()
		l.login.URL = link
		d.mu.Unlock()
		l.move()
		return nil
	}
	d.mu.Lock()
	d.list = slices.Insert(d.list, 0, l)
	d.mu.Unlock()
	opts := connectOptions{
		Names: []string{o.Name}, Provider: o.Provider, Scopes: o.Scopes, Chosen: true,
		Flow: o.Flow, Timeout: flow.DefaultTimeout, ImportStdin: !o.Key.IsZero(), Expires: o.Expires,
	}
	if opts.ImportStdin {
		opts.Flow = flow.FlowAuto // which kind it is shows
	}
	if opts.Flow == "" {
		opts.Flow = flow.FlowAuto
	}
	d.logins.Go(func() {
		defer cancel()
		err := runConnect(run, g, opts)
		d.mu.Lock()
		l.login.State = dashboard.LoginDone
		if err != nil {
			_, hint := explain(err)
			l.login.State, l.login.Problem, l.login.Hint = dashboard.LoginFailed, oauthCleanLong(err.Error()), oauthCleanLong(hint)
		}
		d.mu.Unlock()
		l.move()
	})
	// The page that comes next has the link already.
	timer := time.NewTimer(3 * time.Second)
	defer timer.Stop()
	select {
	case <-l.moved:
	case <-timer.C:
	case <-ctx.Done():
	}
	return nil
}
