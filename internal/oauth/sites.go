package oauth

import (
	"context"
	"encoding/json"
	"net/http"
)

// maxSites is how many sites of an account are looked at.
const maxSites = 1000

// SitesRequest asks an API which sites, accounts or organisations a token
// reaches.
type SitesRequest struct {
	// IdentityRequest says where to ask and where the token goes; its Subject
	// is not used, and its Label is the path of a site's name.
	IdentityRequest
	// List is the path of the list in the answer; empty: the answer itself.
	List string
	// Keep names the fields of a site to keep, by the name to keep them under.
	Keep map[string]string
}

// Site is one of them.
type Site struct {
	Label string // cleaned for display; may be empty
	Kept  map[string]string
}

// Sites fetches the sites that a token reaches, at most 1000. Errors are those of
// Identity; an answer that is no list of objects is ErrUnusable.
func (h *HTTP) Sites(ctx context.Context, r SitesRequest) ([]Site, error) {
	endpoint, header, err := r.place()
	if err != nil {
		return nil, err
	}
	body, err := h.bodyOf(ctx, r.IdentityRequest, call{method: http.MethodGet, url: endpoint, header: header, loopback: r.AllowInsecureLoopback})
	if err != nil {
		return nil, err
	}
	return sitesIn(body, r)
}

func sitesIn(body []byte, r SitesRequest) ([]Site, error) {
	if err := checkDepth(body); err != nil {
		return nil, unusablef("the answer about the sites is not usable: %s", err)
	}
	list := json.RawMessage(body)
	if r.List != "" {
		o, err := parseObject(body)
		if err != nil {
			return nil, unusablef("the answer about the sites is not usable: %s", err)
		}
		list, _ = o.find(r.List)
	}
	var elements []json.RawMessage
	if len(list) == 0 || json.Unmarshal(list, &elements) != nil {
		return nil, unusablef("the answer about the sites holds no list of them")
	}
	if len(elements) > maxSites {
		elements = elements[:maxSites]
	}
	var sites []Site
	for _, element := range elements {
		o, err := parseObject(element)
		if err != nil {
			return nil, unusablef("the answer about the sites holds something else than sites")
		}
		site := Site{Kept: o.keep(object{}, Rules{KeepAs: r.Keep})}
		if r.Label != "" {
			site.Label = o.first(r.Label)
		}
		sites = append(sites, site)
	}
	return sites, nil
}
