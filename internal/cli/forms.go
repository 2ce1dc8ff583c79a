package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/apiauth/apiauth/internal/flow"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/prompt"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/secret"
)

// terminal is where questions are put. It draws on stderr: stdout is for data.
func (a *App) terminal() prompt.Terminal {
	a.catch() // a signal must not leave the terminal in raw mode
	return prompt.Terminal{
		In:    a.Terminal,
		Out:   a.Stderr,
		Plain: a.env("NO_COLOR") != "" || a.env("TERM") == "dumb",
	}
}

// asked makes Ctrl-C at a question the same as at a flow.
func asked(err error) error {
	if errors.Is(err, prompt.ErrInterrupted) {
		return flow.ErrInterrupted
	}
	return err
}

// ask puts a yes-or-no question. Without a person the answer is no.
func (ws *workspace) ask(ctx context.Context, question string, preset bool) (bool, error) {
	if !ws.person() {
		return false, nil
	}
	yes, err := ws.app.terminal().Confirm(ctx, question, preset)
	return yes, asked(err)
}

// askText asks for one line.
func askText(ctx context.Context, a *App, title, description string) (string, error) {
	value, err := a.terminal().Line(ctx, oauth.Clean(title), oauth.Clean(description))
	return strings.TrimSpace(value), asked(err)
}

// askHidden asks for a credential without echo. An empty answer is the zero
// Text.
func askHidden(ctx context.Context, a *App, title, description string) (secret.Text, error) {
	value, err := a.terminal().Hidden(ctx, oauth.Clean(title), oauth.Clean(description))
	if err != nil {
		return secret.Text{}, asked(err)
	}
	return secret.New(strings.TrimSpace(value.Reveal())), nil
}

// askClient asks for the id and the secret of a registration.
func askClient(ctx context.Context, a *App, def *providers.Definition, redirect string) (string, secret.Text, error) {
	id, err := askText(ctx, a, "Client ID", "redirect URI: "+redirect)
	if err != nil || def.TokenEndpointAuthMethod == oauth.AuthNone {
		return id, secret.Text{}, err
	}
	hint := "not shown while you type"
	if def.SecretOptional {
		hint += "; leave it empty for a public client"
	}
	clientSecret, err := askHidden(ctx, a, "Client secret", hint)
	if err != nil {
		return "", secret.Text{}, err
	}
	return id, clientSecret, nil
}

// pickScopes lets a person choose scopes by what they allow. Required ones are
// not on the list: they are named above it and always asked for.
func pickScopes(ctx context.Context, a *App, def *providers.Definition) ([]string, error) {
	facts := &def.Scopes
	var options []prompt.Option
	for _, s := range facts.Catalog {
		if slices.Contains(facts.Required, s.Name) {
			continue
		}
		title := s.Title
		if title == "" {
			title = s.Description
		}
		label := fmt.Sprintf("%s  %s", s.Name, oauth.Clean(title))
		if s.Category != "" {
			label = fmt.Sprintf("%s: %s", oauth.Clean(s.Category), label)
		}
		if s.Broad {
			label += "  (broad)"
		}
		options = append(options, prompt.Option{
			Value:    s.Name,
			Label:    label,
			Detail:   oauth.Clean(s.Description),
			Selected: slices.Contains(facts.Default, s.Name),
		})
	}
	if len(options) == 0 {
		return slices.Clone(facts.Default), nil
	}
	description := "space picks, / filters, enter ends"
	if len(facts.Required) > 0 {
		// First, because a narrow terminal cuts the end.
		description = "always asked for: " + strings.Join(facts.Required, " ") + "; " + description
	}
	chosen, err := a.terminal().Pick(ctx, "What may "+oauth.Clean(def.Name)+" tokens do?", description, options)
	return chosen, asked(err)
}

// mayOpenBrowser reports whether a browser may be opened here at all.
func (ws *workspace) mayOpenBrowser(forbidden bool) bool {
	return ws.app.Approve != nil || !forbidden && !ws.cfg.NoInput && !ws.app.inCI() && !ws.remoteShell()
}

// remoteShell reports that this is a login from elsewhere that cannot show a
// window: a browser that starts here would be seen by nobody.
func (ws *workspace) remoteShell() bool {
	env := ws.app.env
	return (env("SSH_CONNECTION") != "" || env("SSH_TTY") != "") &&
		env("BROWSER") == "" && env("DISPLAY") == "" && env("WAYLAND_DISPLAY") == ""
}

// openBrowser opens a URL by the person's own choice of browser.
func (ws *workspace) openBrowser(ctx context.Context, url string) error {
	if ws.app.Approve != nil {
		return ws.app.Approve(ctx, url)
	}
	return ws.opener().Open(ctx, url)
}

// opener opens the person's browser.
func (ws *workspace) opener() flow.Opener {
	o := flow.Opener{
		Env:     ws.app.env,
		Environ: ws.app.Environ(),
		Stderr:  ws.app.Stderr,
		Start:   ws.app.StartBrowser,
		GOOS:    ws.app.GOOS,
	}
	if ws.manifest != nil {
		o.ProjectDir = ws.manifest.Dir()
	}
	if ws.app.GOOS == "windows" {
		o.Fallback = ws.app.SystemBrowser
	}
	return o
}
