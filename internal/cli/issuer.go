package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/providers"
)

// definition finds the definition of a catalogue id, or discovers that of an
// issuer URL.
func (ws *workspace) definition(ctx context.Context, provider string) (*providers.Definition, error) {
	if !strings.Contains(provider, "://") {
		def, err := ws.catalogue.Get(provider)
		if err != nil {
			return nil, err
		}
		if !def.NeedsDiscovery() {
			return def, nil
		}
		m, err := ws.discover(ctx, def.Issuer, def.AllowInsecureLoopback)
		if err != nil {
			return nil, err
		}
		if err := def.Complete(m); err != nil {
			return nil, err
		}
		return def, nil
	}
	m, err := ws.discover(ctx, provider, false)
	if err != nil {
		return nil, err
	}
	p, err := providers.FromMetadata(provider, m)
	if err != nil {
		return nil, err
	}
	return &providers.Definition{Provider: p, Origin: providers.Discovered}, nil
}

func (ws *workspace) discover(ctx context.Context, issuer string, allowLoopback bool) (providers.Metadata, error) {
	client, err := ws.issuer()
	if err != nil {
		return providers.Metadata{}, err
	}
	m, err := client.Discover(ctx, issuer, allowLoopback)
	var status *oauth.StatusError
	switch {
	case err == nil:
		return metadata(m), nil
	case errors.Is(err, oauth.ErrUnusable) && !errors.As(err, &status):
		return providers.Metadata{}, failf(exitFailure, "check the address; what an issuer publishes is taken as a whole or not at all, and 'apiauth provider add FILE' takes a definition instead",
			"discover %s: %w", oauth.Clean(issuer), err)
	}
	return providers.Metadata{}, fmt.Errorf("discover %s: %w", oauth.Clean(issuer), err)
}

// approvals is what a person agreed to of issuers that no catalogue knows.
type approvals struct {
	Format  int               `json:"format"`
	Issuers map[string]string `json:"issuers"` // issuer -> digest of its hosts
}

func (ws *workspace) approvalsPath() string { return filepath.Join(ws.dirs.State, "issuers.json") }

// approveIssuer shows where the credentials of a discovered issuer would go, and
// asks once per user.
func (ws *workspace) approveIssuer(ctx context.Context, issuer string, def *providers.Definition, agreed bool) error {
	hosts := endpointHosts(def.Provider)
	sum := sha256.Sum256([]byte(strings.Join(hosts, "\n")))
	digest := hex.EncodeToString(sum[:])
	known, err := ws.readApprovals()
	if err != nil {
		return err
	}
	if known.Issuers[issuer] == digest {
		return nil
	}
	ws.show("%s is not in the catalogue. Its metadata names these hosts:", oauth.Clean(issuer))
	for _, h := range hosts {
		ws.show("  %s", oauth.Clean(h))
	}
	if !agreed {
		ok, err := ws.ask(ctx, "Trust them with this login?", false)
		if err != nil {
			return err
		}
		if !ok {
			return failf(exitRefused, fmt.Sprintf("approve it at a terminal, or name it yourself: --provider %s", oauth.Clean(issuer)),
				"the issuer %s was not approved", oauth.Clean(issuer))
		}
	}
	known.Issuers[issuer] = digest
	return ws.writeApprovals(known)
}

// endpointHosts lists the hosts that would receive credentials or tokens.
func endpointHosts(p *providers.Provider) []string {
	var hosts []string
	for _, e := range []string{p.AuthorizationEndpoint, p.TokenEndpoint, p.DeviceAuthorizationEndpoint, p.RevocationEndpoint, p.IntrospectionEndpoint, p.UserinfoEndpoint,
		p.MTLS.TokenEndpoint, p.MTLS.DeviceAuthorizationEndpoint, p.MTLS.RevocationEndpoint, p.MTLS.IntrospectionEndpoint, p.MTLS.PushedEndpoint,
		p.MTLS.UserinfoEndpoint} {
		if e == "" {
			continue
		}
		if h, err := providers.URLHost(e); err == nil {
			hosts = append(hosts, h)
		}
	}
	hosts = append(hosts, p.API.Hosts...)
	slices.Sort(hosts)
	return slices.Compact(hosts)
}

func (ws *workspace) readApprovals() (approvals, error) {
	known := approvals{Format: 1, Issuers: map[string]string{}}
	doc, err := os.ReadFile(ws.approvalsPath())
	if errors.Is(err, fs.ErrNotExist) {
		return known, nil
	}
	if err != nil {
		return known, failf(exitStore, "'apiauth paths' shows where everything lies", "read the approved issuers: %w", err)
	}
	if err := json.Unmarshal(doc, &known); err != nil || known.Format != 1 {
		return known, failf(exitStore, "move it away; issuers are then asked about again", "%s cannot be understood", ws.approvalsPath())
	}
	if known.Issuers == nil {
		known.Issuers = map[string]string{}
	}
	return known, nil
}

func (ws *workspace) writeApprovals(known approvals) error {
	doc, err := json.MarshalIndent(known, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(ws.dirs.State, 0o700); err != nil {
		return failf(exitStore, "", "remember the approved issuer: %w", err)
	}
	tmp := ws.approvalsPath() + ".tmp"
	if err := os.WriteFile(tmp, append(doc, '\n'), 0o600); err != nil {
		return failf(exitStore, "", "remember the approved issuer: %w", err)
	}
	if err := os.Rename(tmp, ws.approvalsPath()); err != nil {
		return failf(exitStore, "", "remember the approved issuer: %w", err)
	}
	return nil
}

// metadata turns the protocol room's metadata into the catalogue's.
func metadata(m oauth.Metadata) providers.Metadata {
	return providers.Metadata(m)
}
