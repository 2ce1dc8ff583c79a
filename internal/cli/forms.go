package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"charm.land/huh/v2"

	"github.com/apiauth/apiauth/internal/flow"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/secret"
)

// runForm shows a form on the terminal. It draws on stderr: stdout is for data.
func runForm(a *App, fields ...huh.Field) error {
	form := huh.NewForm(huh.NewGroup(fields...)).WithInput(a.Stdin).WithOutput(a.Stderr)
	if a.env("NO_COLOR") != "" {
		form = form.WithTheme(huh.ThemeFunc(huh.ThemeBase))
	}
	err := form.Run()
	if errors.Is(err, huh.ErrUserAborted) {
		return flow.ErrInterrupted
	}
	return err
}

// ask puts a yes-or-no question. Without a person the answer is no.
func (ws *workspace) ask(question string, preset bool) (bool, error) {
	if !ws.person() {
		return false, nil
	}
	answer := preset
	err := runForm(ws.app, huh.NewConfirm().Title(question).Affirmative("Yes").Negative("No").Value(&answer))
	return answer, err
}

// askText asks for one line.
func askText(a *App, title, description string) (string, error) {
	var value string
	err := runForm(a, huh.NewInput().Title(oauth.Clean(title)).Description(oauth.Clean(description)).Value(&value))
	return strings.TrimSpace(value), err
}

// askClient asks for the id and the secret of a registration.
func askClient(a *App, def *providers.Definition, redirect string) (string, secret.Text, error) {
	var id, clientSecret string
	fields := []huh.Field{
		huh.NewInput().Title("Client ID").Description("redirect URI: " + redirect).Value(&id),
	}
	if def.TokenEndpointAuthMethod != oauth.AuthNone {
		hint := "not shown while you type"
		if def.SecretOptional {
			hint += "; leave it empty for a public client"
		}
		fields = append(fields, huh.NewInput().Title("Client secret").Description(hint).EchoMode(huh.EchoModeNone).Value(&clientSecret))
	}
	if err := runForm(a, fields...); err != nil {
		return "", secret.Text{}, err
	}
	return strings.TrimSpace(id), secret.New(strings.TrimSpace(clientSecret)), nil
}

// pickScopes lets a person choose scopes by what they allow. Required ones are
// not on the list: they are named above it and always asked for.
func pickScopes(a *App, def *providers.Definition) ([]string, error) {
	facts := &def.Scopes
	chosen := slices.Clone(facts.Default)
	var options []huh.Option[string]
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
		options = append(options, huh.NewOption(label, s.Name).Selected(slices.Contains(chosen, s.Name)))
	}
	if len(options) == 0 {
		return chosen, nil
	}
	description := "space selects, / filters, enter goes on"
	if len(facts.Required) > 0 {
		description += "; always asked for: " + strings.Join(facts.Required, " ")
	}
	err := runForm(a, huh.NewMultiSelect[string]().
		Title("What may "+oauth.Clean(def.Name)+" tokens do?").
		Description(description).
		Options(options...).
		Height(min(len(options)+4, 16)).
		Filterable(true).
		Value(&chosen))
	return chosen, err
}

// mayOpenBrowser reports whether a browser may be opened here at all.
func (ws *workspace) mayOpenBrowser(forbidden bool) bool {
	return ws.app.Approve != nil || !forbidden && !ws.cfg.NoInput && !ws.app.inCI()
}

// openBrowser opens a URL by the person's own choice of browser.
func (ws *workspace) openBrowser(ctx context.Context, url string) error {
	if ws.app.Approve != nil {
		return ws.app.Approve(ctx, url)
	}
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
	return o.Open(ctx, url)
}
