package cli

import (
	"context"

	"github.com/apiauth/apiauth/internal/audit"
	"github.com/apiauth/apiauth/internal/inject"
	"github.com/apiauth/apiauth/internal/oauth"
)

// The events that the user's own configuration can name a command for.
const (
	hookAlert         = "alert"
	hookConnect       = "connect"
	hookRefreshFailed = "refresh_failed"
	hookDisconnect    = "disconnect"
)

// hook runs the command that the user wants run at an event. It is told what
// happened by variables, and never a token. A hook that fails is no reason to
// fail.
func (ws *workspace) hook(ctx context.Context, event, name, rule string) {
	argv := map[string][]string{
		hookAlert:         ws.cfg.Hooks.Alert,
		hookConnect:       ws.cfg.Hooks.Connect,
		hookRefreshFailed: ws.cfg.Hooks.RefreshFailed,
		hookDisconnect:    ws.cfg.Hooks.Disconnect,
	}[event]
	if len(argv) == 0 {
		return
	}
	h := inject.Hook{Argv: argv, Output: ws.app.Stderr}
	h.Env = append(inject.HookEnv(ws.app.Environ()),
		"APIAUTH_EVENT="+event, "APIAUTH_PROJECT="+ws.projectID, "APIAUTH_CONNECTION="+name)
	var err error
	if event == hookAlert {
		// The command that raised it goes on, and may become another program.
		h.Env = append(h.Env, "APIAUTH_RULE="+rule)
		err = h.Start()
	} else {
		err = h.Run(context.WithoutCancel(ctx))
	}
	if err != nil {
		ws.warn("the %s hook of %q failed: %s", event, name, oauth.Clean(err.Error()))
	}
}

// alert tells a person and the user's command of something unusual.
func (ws *workspace) alert(ctx context.Context, name string, alert audit.Alert) {
	ws.warn("unusual use of %q: %s; 'apiauth audit log %s' tells more", name, oauth.Clean(alert.Text), name)
	ws.hook(ctx, hookAlert, name, alert.Rule)
}
