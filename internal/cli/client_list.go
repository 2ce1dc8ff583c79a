package cli

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/store"
)

// clientInfo is a registration as it is shown. It holds no secret.
type clientInfo struct {
	Provider      string            `json:"provider"`
	ClientID      string            `json:"client_id"`
	Scope         string            `json:"scope"` // user or project
	Project       string            `json:"project,omitempty"`
	TokenEndpoint string            `json:"token_endpoint"`
	AuthMethod    string            `json:"token_endpoint_auth_method"`
	RedirectURI   string            `json:"redirect_uri,omitempty"`
	Variables     map[string]string `json:"variables,omitempty"`
	HasSecret     bool              `json:"has_secret"`
	Store         string            `json:"store"`
	SetAt         time.Time         `json:"set_at"`
	NextSetAt     *time.Time        `json:"next_set_at,omitempty"`
	Certificate   *time.Time        `json:"certificate_ends,omitempty"`
}

func describeClient(r connection.Registration, kind, redirect string) clientInfo {
	info := clientInfo{
		Provider: r.Provider, ClientID: r.ClientID, Scope: "user", Project: r.Project,
		TokenEndpoint: r.TokenEndpoint, AuthMethod: r.AuthMethod, RedirectURI: redirect,
		Variables: r.Variables, HasSecret: r.HasSecret, Store: kind, SetAt: r.SetAt,
		NextSetAt: instant(r.NextSetAt), Certificate: instant(oauth.CertificateEnds(r.Certificates)),
	}
	if r.Project != "" {
		info.Scope = "project"
	}
	return info
}

func newClientListCmd(g *globals) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the stored clients, without their secrets",
		Long: `List the clients that are stored for all your projects and for this one. No
secret is read: the keychain is not asked.`,
		Args:              args(noArguments),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(*cobra.Command, []string) error { return runClientList(g, all) },
	}
	cmd.Flags().BoolVar(&all, "all", false, "those of your other projects, too")
	return cmd
}

func runClientList(g *globals, all bool) error {
	ws, err := g.workspace()
	if err != nil {
		return err
	}
	list := []clientInfo{}
	err = ws.eachStore(func(s *store.Store) error {
		registrations, err := s.Registrations()
		if err != nil {
			return err
		}
		for _, r := range registrations {
			if r.Project == "" || r.Project == ws.projectID || all {
				list = append(list, describeClient(r, s.Kind(), r.RedirectURI))
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if len(list) == 0 {
		ws.say("No client is stored. 'apiauth client set PROVIDER' stores one; connect asks for it, too.")
	}
	if g.cfg.JSON {
		return printJSON(g.app.Stdout, list)
	}
	if len(list) == 0 {
		return nil
	}
	rows := [][]string{{"PROVIDER", "CLIENT ID", "SECRET", "FOR", "STORE", "REDIRECT URI", "SET"}}
	for _, c := range list {
		held, scope := "no", "all projects"
		if c.HasSecret {
			held = "yes"
		}
		if c.Certificate != nil {
			held = "certificate until " + c.Certificate.Format(time.DateOnly)
		}
		if c.NextSetAt != nil {
			held += ", next " + c.NextSetAt.Format(time.DateOnly)
		}
		switch c.Project {
		case "":
		case ws.projectID:
			scope = "this project"
		default:
			scope = "project " + c.Project
		}
		redirect := c.RedirectURI
		if redirect == "" {
			redirect = "(default)"
		}
		rows = append(rows, []string{c.Provider, c.ClientID, held, scope, c.Store, redirect, c.SetAt.Format(time.DateOnly)})
	}
	return printTable(g.app.Stdout, rows...)
}
