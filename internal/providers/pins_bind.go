package providers

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// BindAPI fills in what only the callback or the token response tells, such as
// {instance_url}, and leaves exact hosts behind: the hosts that were declared
// exactly, and in place of those that begin with a dot the hosts that the API's
// addresses now have. Each must be a declared host or lie under a declared one
// that begins with a dot.
//
// Calling it again with the same values changes nothing. Values that would lead
// the token to another host than before are refused with *MovedError; a missing
// one is a *MissingVariableError. On an error p is unchanged.
func (p *Pins) BindAPI(kept map[string]string) error {
	if p.Declared == nil {
		return nil
	}
	d := *p.Declared
	values := make(map[string]string, len(kept))
	for name, value := range kept {
		if !isVariableName(name) {
			continue
		}
		if strings.Contains(value, "://") {
			value = strings.TrimSuffix(value, "/")
		}
		values[name] = value
	}
	declared := make([]string, 0, len(d.APIHosts))
	var hosts []string
	for _, template := range d.APIHosts {
		host, err := p.fill(template, values)
		if err != nil {
			return err
		}
		if strings.HasPrefix(host, ".") {
			declared = append(declared, host)
			continue
		}
		if host, err = NormalHost(host); err != nil {
			return err
		}
		declared = append(declared, host)
		hosts = append(hosts, host)
	}
	bind := func(template string) (string, error) {
		if template == "" {
			return "", nil
		}
		url, err := p.fill(template, values)
		if err != nil {
			return "", err
		}
		if err := checkURL(url, p.AllowInsecureLoopback); err != nil {
			return "", fmt.Errorf("%s: %w", strconv.QuoteToASCII(clip(url, 120)), err)
		}
		if !isTemplate(template) && template != d.APIBase {
			return url, nil
		}
		host, err := URLHost(url)
		if err != nil {
			return "", err
		}
		if !slices.ContainsFunc(declared, func(allowed string) bool { return hostMatches(host, allowed) }) {
			return "", fmt.Errorf("the host %s is none of those that %s declares: %s", host, p.Provider, strings.Join(declared, ", "))
		}
		if !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
		return url, nil
	}
	bound := *p
	for _, field := range []struct {
		template string
		into     *string
	}{
		{d.APIBase, &bound.APIBase},
		{d.UserinfoEndpoint, &bound.UserinfoEndpoint},
		{d.IntrospectionEndpoint, &bound.IntrospectionEndpoint},
		{d.RevocationEndpoint, &bound.RevocationEndpoint},
	} {
		url, err := bind(field.template)
		if err != nil {
			return err
		}
		*field.into = url
	}
	if len(hosts) == 0 {
		return errors.New("no API host is known after connect")
	}
	if p.bound() && !slices.Equal(p.APIHosts, hosts) {
		return &MovedError{Was: slices.Clone(p.APIHosts), Is: hosts}
	}
	bound.APIHosts = hosts
	*p = bound
	return nil
}

// bound reports whether every host is exact and every address complete.
func (p *Pins) bound() bool {
	for _, s := range []string{p.APIBase, p.UserinfoEndpoint, p.IntrospectionEndpoint, p.RevocationEndpoint} {
		if isTemplate(s) {
			return false
		}
	}
	return !slices.ContainsFunc(p.APIHosts, func(host string) bool { return isTemplate(host) || strings.HasPrefix(host, ".") })
}

// fill expands a template with values from outside. A value that begins the
// URL must be an origin; any other must be plain letters, digits, dots, hyphens
// and underscores.
func (p *Pins) fill(template string, values map[string]string) (string, error) {
	names, err := namesIn(template)
	if err != nil {
		return "", err
	}
	for i, name := range names {
		value := values[name]
		if value == "" {
			return "", &MissingVariableError{Provider: p.Provider, Variable: Variable{Name: name, From: FromToken}}
		}
		if i == 0 && strings.HasPrefix(template, "{") && strings.Contains(value, "://") {
			if err := checkURL(value, p.AllowInsecureLoopback); err != nil {
				return "", fmt.Errorf("%s: %w", name, err)
			}
			if strings.ContainsAny(value[strings.Index(value, "://")+3:], "/?") {
				return "", fmt.Errorf("%s: %s is not an origin such as https://acme.example.com", name, strconv.QuoteToASCII(clip(value, 120)))
			}
			continue
		}
		plain := Variable{Name: name}
		if _, err := plain.normalise(value); err != nil {
			return "", err
		}
	}
	return expand(template, values), nil
}
