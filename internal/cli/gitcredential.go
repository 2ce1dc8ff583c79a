package cli

import (
	"context"
	"errors"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/inject"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/project"
	"github.com/apiauth/apiauth/internal/providers"
)

type gitOptions struct {
	Operation  string
	Connection string
}

func newGitCredentialCmd(g *globals) *cobra.Command {
	var opts gitOptions
	cmd := &cobra.Command{
		Use:         "git-credential get|store|erase",
		Short:       "Give git the token of a connection, as a credential helper",
		GroupID:     groupUse,
		Annotations: lateSignals(),
		Long: `Speak git's credential helper protocol on standard input and output.

get answers with a live token for https and a host that stands in the git_hosts
of the connection's provider, exactly and with its port. The connection is the
one of -c, or else the only one of the project with such a host. In all other
cases it answers nothing, and git asks the next helper or you. It never asks
anybody itself. store and erase read their input and do nothing: what git was
given is kept here already.`,
		Example: `  git config --global credential.https://github.com.helper '!apiauth git-credential'
  git config credential.https://gitlab.com.helper '!apiauth git-credential -c work'`,
		Args:      args(between(1, 1)),
		ValidArgs: []string{"get", "store", "erase"},
		RunE: func(cmd *cobra.Command, a []string) error {
			opts.Operation = a[0]
			return runGitCredential(cmd.Context(), g, opts)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&opts.Connection, "connection", "c", "", "use the connection `NAME` and no other")
	_ = cmd.RegisterFlagCompletionFunc("connection", completeConnections(g))
	return cmd
}

func runGitCredential(ctx context.Context, g *globals, opts gitOptions) error {
	if opts.Connection != "" && !project.ValidName(opts.Connection) {
		return usagef("%q is no connection name", oauth.Clean(opts.Connection))
	}
	if opts.Operation != "get" {
		// Operations that are not known are passed over, as git asks of helpers.
		_, err := io.Copy(io.Discard, g.app.Stdin)
		return err
	}
	asked, err := inject.ParseGitRequest(g.app.Stdin)
	if err != nil {
		return failf(exitUsage, "let git call it: set credential.helper to '!apiauth git-credential'", "%w", err)
	}
	if asked.Protocol != "https" {
		return nil // a token is never sent in clear
	}
	g.cfg.NoInput = true // git has the terminal
	ws, err := g.workspace()
	if err != nil {
		return err
	}
	name, pins, err := ws.gitConnection(asked.Host, opts.Connection)
	if err != nil || name == "" {
		return err
	}
	if asked.Username != "" && asked.Username != pins.GitUser() {
		return nil // somebody else's password is wanted
	}
	access, err := ws.token(ctx, name, connection.Option{})
	if err != nil {
		return err
	}
	if !access.Header.Pins.ServesGit(asked.Host) {
		return nil // another login has taken its place just now
	}
	answer := inject.GitAnswer{Username: access.Header.Pins.GitUser(), Token: access.Token, Expires: access.ExpiresAt}
	if err := answer.Write(g.app.Stdout, name); err != nil {
		return err
	}
	return nil
}

// gitConnection finds the connection for a git host by the clear headers: the
// named one if it serves that host, else the only one of the project that does.
// It returns no name when none does, or several do.
func (ws *workspace) gitConnection(host, only string) (string, *providers.Pins, error) {
	if _, err := ws.bound(); err != nil {
		return "", nil, err
	}
	s, err := ws.store()
	if errors.Is(err, errNoStore) {
		return "", nil, nil
	}
	if err != nil {
		return "", nil, err
	}
	names := []string{only}
	if only == "" {
		if names, err = s.Names(ws.projectID); err != nil {
			return "", nil, err
		}
	}
	var found []string
	var pins *providers.Pins
	for _, name := range names {
		h, err := s.Header(connection.Key{Project: ws.projectID, Name: name})
		switch {
		case err == nil && h.Pins.ServesGit(host):
			found, pins = append(found, name), &h.Pins
		case err != nil && only != "":
			if errors.Is(err, connection.ErrNotStored) {
				return "", nil, ws.notConnected(only)
			}
			return "", nil, err
		}
	}
	switch {
	case len(found) > 1:
		ws.warn("%s serve %s: choose one with 'git config credential.https://%s.helper \"!apiauth git-credential -c %s\"'",
			strings.Join(found, " and "), oauth.Clean(host), oauth.Clean(host), found[0])
		return "", nil, nil
	case len(found) == 0:
		return "", nil, nil
	}
	return found[0], pins, nil
}
