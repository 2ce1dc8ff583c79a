package cli

import (
	"strings"

	"charm.land/huh/v2"

	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/secret"
)

// askHidden asks for a credential without echo. An empty answer is the zero
// Text.
func askHidden(a *App, title, description string) (secret.Text, error) {
	var value string
	err := runForm(a, huh.NewInput().Title(oauth.Clean(title)).Description(oauth.Clean(description)).EchoMode(huh.EchoModeNone).Value(&value))
	if value = strings.TrimSpace(value); err != nil || value == "" {
		return secret.Text{}, err
	}
	return secret.New(value), nil
}

// agree asks for a yes before something that cannot be taken back, or that
// decides where credentials go. yes is the command's --yes. Nobody to ask is an
// error that names it.
func (ws *workspace) agree(question string, yes bool) error {
	if yes {
		return nil
	}
	if !ws.person() {
		return failf(exitUsage, "look at what is said above, and add --yes", "nobody can be asked here: %s", question)
	}
	ok, err := ws.ask(question, false)
	if err != nil {
		return err
	}
	if !ok {
		return failf(exitFailure, "", "nothing was changed")
	}
	return nil
}
