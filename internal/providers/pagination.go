package providers

import (
	"slices"
	"strings"
)

// Styles of Pagination.
const (
	PagesLink     = "link"      // the header Link with rel="next" (RFC 8288)
	PagesNextURL  = "next_url"  // a field holds the address of the next page
	PagesCursor   = "cursor"    // a field holds the value of a parameter
	PagesLastItem = "last_item" // a field of the last item is the value of a parameter
	PagesOffset   = "offset"    // a parameter counts the items before the page
	PagesNumber   = "page"      // a parameter is the number of the page
)

// Pagination is how one page of a list leads to the next. Fields are found by
// paths, with dots between names.
type Pagination struct {
	Style string `yaml:"style"`
	// Next is the field of the address (next_url), of the cursor (cursor), or
	// of the last item (last_item).
	Next string `yaml:"next"`
	// Param is the query parameter of cursor, last_item, offset and page.
	Param string `yaml:"param"`
	// Pages is the field with the number of all pages (page); without it a list
	// ends with an empty page. FromZero says that the first page is 0, not 1.
	Pages    string `yaml:"pages"`
	FromZero bool   `yaml:"from_zero"`
	// More is the field that says whether another page follows (last_item);
	// without it a list ends with an empty page.
	More string `yaml:"more"`
	// Total is the field with the number of all items; without it a list ends with
	// an empty page. Size is the field with the length of a page if it need not be
	// full (offset).
	Total string `yaml:"total"`
	Size  string `yaml:"size"`
	// Items is the field of the list, where .* at the end means the only array in
	// that object; the default is the answer itself, or the
	// only array in it.
	Items string `yaml:"items"`
}

// validate checks that a rule has what its style needs, and nothing else.
func (g *Pagination) validate(i int) *fault {
	var needs, takes []string
	switch g.Style {
	case PagesLink:
	case PagesNextURL:
		needs = []string{"next"}
	case PagesCursor:
		needs = []string{"next", "param"}
	case PagesLastItem:
		needs, takes = []string{"next", "param"}, []string{"more"}
	case PagesOffset:
		needs, takes = []string{"param"}, []string{"total", "size"}
	case PagesNumber:
		needs, takes = []string{"param"}, []string{"pages"}
	default:
		return faultAt(oneOf(g.Style, Choices("api.pagination[].style")...), "api", "pagination", i, "style")
	}
	for _, f := range []struct{ key, value string }{
		{"next", g.Next}, {"param", g.Param}, {"more", g.More}, {"total", g.Total}, {"size", g.Size}, {"pages", g.Pages}, {"items", g.Items},
	} {
		needed := slices.Contains(needs, f.key)
		switch {
		case f.value == "" && needed:
			return faultAt("the style "+g.Style+" needs "+f.key, "api", "pagination", i)
		case f.value != "" && !needed && !slices.Contains(takes, f.key) && f.key != "items":
			return faultAt("the style "+g.Style+" takes no "+f.key, "api", "pagination", i, f.key)
		case !plainToken(f.value, 80) || f.key == "param" && strings.ContainsAny(f.value, "&=#?%+"):
			return faultAt("this is not the name of a field or parameter", "api", "pagination", i, f.key)
		}
	}
	if g.FromZero && g.Style != PagesNumber {
		return faultAt("the style "+g.Style+" takes no from_zero", "api", "pagination", i, "from_zero")
	}
	return nil
}
