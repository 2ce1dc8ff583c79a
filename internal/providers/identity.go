package providers

import "strings"

// maxQuery bounds identity.query, in bytes.
const maxQuery = 1024

// validateIdentity checks the question who signed in.
func (p *Provider) validateIdentity(Origin) *fault {
	i := &p.Identity
	switch {
	case !may("identity.from", i.From):
		return faultAt(oneOf(i.From, Choices("identity.from")...), "identity", "from")
	case i.Query == "":
		return nil
	case i.From == "token":
		return faultAt("with from: token nothing is asked", "identity", "query")
	case p.UserinfoEndpoint == "":
		return faultAt("query needs userinfo_endpoint: the address that it is sent to", "identity", "query")
	case len(i.Query) > maxQuery || !asciiText(i.Query):
		return faultAt("the query is longer than 1024 bytes or holds other than printable ASCII", "identity", "query")
	case !strings.HasPrefix(i.Query, "{") && !strings.HasPrefix(i.Query, "query ") && !strings.HasPrefix(i.Query, "query{"):
		return faultAt("a GraphQL query begins with { or query: it reads, and changes nothing", "identity", "query")
	case strings.Contains(i.Query, "$"):
		return faultAt("the query takes no variables", "identity", "query")
	}
	return nil
}
