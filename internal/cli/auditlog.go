package cli

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/apiauth/apiauth/internal/audit"
	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/keyring"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/store"
)

// How far an audit log may be ahead of what the record has sealed about it. The
// record is written for that alone only where nothing else writes it.
const (
	anchorLines = 500
	anchorAge   = 24 * time.Hour
)

// auditor writes down what is handed out of one store. A nil one writes nothing.
type auditor struct {
	ws    *workspace
	store *store.Store
}

// auditor returns what writes the audit log of the project, or nil where nobody
// wants one.
func (ws *workspace) auditor(s *store.Store) *auditor {
	if ws.cfg.NoAudit {
		return nil
	}
	return &auditor{ws, s}
}

// token writes down a token that leaves.
func (a *auditor) token(ctx context.Context, access connection.Access) {
	if a == nil {
		return
	}
	a.write(ctx, access.Name, audit.Entry{Event: audit.EventToken}, access.Token.Reveal())
}

// calls writes down calls that were made with a token, and what came of them.
func (a *auditor) calls(ctx context.Context, name string, access connection.Access, c callCount) {
	if a == nil {
		return
	}
	a.write(ctx, name, audit.Entry{Event: audit.EventCalls, Count: c.made, Refused: c.refused, Failed: c.failed}, access.Token.Reveal())
}

// event writes down that a connection began or ends.
func (a *auditor) event(ctx context.Context, name, event, detail string) {
	if a == nil {
		return
	}
	a.write(ctx, name, audit.Entry{Event: event, Detail: detail}, "")
	if event != audit.EventConnect {
		return
	}
	if path, err := a.store.AuditPath(connection.Key{Project: a.ws.projectID, Name: name}); err == nil {
		audit.Begun(path)
	}
}

// refused writes down that a token was asked for whose grant has ended. With a
// connection that is gone its key is gone, too: then only the person is told.
func (a *auditor) refused(ctx context.Context, name string, err error) {
	switch {
	case a == nil:
	case errors.Is(err, connection.ErrNeedsConnect):
		a.write(ctx, name, audit.Entry{Event: audit.EventRefused}, "")
	case errors.Is(err, connection.ErrNotConnected):
		path, err := a.store.AuditPath(connection.Key{Project: a.ws.projectID, Name: name})
		if err == nil && audit.AskedAfter(path) {
			a.ws.alert(ctx, name, audit.Alert{Rule: audit.RuleRefused, Text: "it is still asked for, though it was disconnected"})
		}
	}
}

// write adds a line. A log that cannot be written is no reason to fail: it is
// said once.
func (a *auditor) write(ctx context.Context, name string, e audit.Entry, token string) {
	ctx = context.WithoutCancel(ctx)
	key := connection.Key{Project: a.ws.projectID, Name: name}
	log, err := a.store.AuditLog(ctx, key)
	if err == nil {
		e.Time, e.Purpose = a.ws.app.Now(), a.ws.purpose
		if a.ws.app.Caller != nil {
			e.Caller, e.Folder = a.ws.app.Caller()
		}
		if token != "" {
			e.Print = audit.Fingerprint(log.Key, token)
		}
		var alerts []audit.Alert
		alerts, err = log.Append(audit.DefaultRules(), e)
		for _, alert := range alerts {
			if alert.Rule == audit.RuleEnded {
				a.ws.hook(ctx, hookRefreshFailed, name, "")
				continue
			}
			a.ws.alert(ctx, name, alert)
		}
		begins := e.Event == audit.EventConnect || e.Event == audit.EventRenamed
		if err == nil && (begins || log.Behind() >= anchorLines || e.Time.Sub(log.Anchor.At) >= anchorAge) {
			err = a.store.Anchor(ctx, key)
		}
	}
	if err != nil && !ofKeychain(err) {
		a.ws.unheard.Do(func() {
			a.ws.warn("the audit log of %q was not written: %s", name, oauth.Clean(err.Error()))
		})
	}
}

// ofKeychain says that an error is the keychain's: the command meets the same
// keychain, and tells more.
func ofKeychain(err error) bool {
	return slices.ContainsFunc([]error{keyring.ErrAbsent, keyring.ErrLocked, keyring.ErrDenied, keyring.ErrTimeout, keyring.ErrFailed},
		func(kind error) bool { return errors.Is(err, kind) })
}
