// Identity providers for the tests: npm's oidc-provider, on loopback, as many as
// are asked for. Run in the folder that holds node_modules.
//
// Prints one line, the address of its control server, which takes JSON:
//   POST /issuers  {clients: [{id, flow, alg, tenant}], ttl?, audience?}
//                                        a new issuer; answers {issuer, at}
//   POST <at>/keys {names: [name]}       its keys from now on; the first one signs
//   POST <at>/token {client, scope}      client credentials; answers {token}
//   POST <at>/sign-in {client, scope}    as a user would, by implicit flow or by code
//                                        and PKCE; answers {token}
// It ends with its standard input.

import { createHash, generateKeyPairSync, randomBytes, webcrypto } from 'node:crypto';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

// What Node 18 and 20 lack.
globalThis.crypto ??= webcrypto;
URL.parse ??= (...args) => {
  try {
    return new URL(...args);
  } catch {
    return null;
  }
};

const main = createRequire(join(process.cwd(), 'provider.js')).resolve('oidc-provider');
const { Provider, interactionPolicy } = await import(main);
const { default: privateOf } = await import(join(dirname(main), 'helpers', 'weak_cache.js'));

const SCOPES = ['tenure:read', 'tenure:write', 'tenure:all', 'tenure:other'];
const SECRET = 'a secret of the tests';
const REDIRECT = 'http://127.0.0.1:1/api/docs/oauth2-redirect.html';

const keys = new Map();

// The three private keys of a name, made when it is first heard of.
function keysOf(name) {
  if (!keys.has(name)) {
    const pairs = [
      ['RS256', generateKeyPairSync('rsa', { modulusLength: 2048 })],
      ['ES256', generateKeyPairSync('ec', { namedCurve: 'P-256' })],
      ['EdDSA', generateKeyPairSync('ed25519')],
    ];
    keys.set(name, pairs.map(([alg, { privateKey }]) => (
      { ...privateKey.export({ format: 'jwk' }), alg, use: 'sig', kid: `${name}-${alg}` }
    )));
  }
  return keys.get(name);
}

// Flows, by what a client of each is registered with. Loopback redirects of native
// clients hold for every port (RFC 8252, 7.3).
function registered({ id, flow }) {
  const common = { client_id: id, application_type: 'native' };
  switch (flow) {
    case 'client_credentials':
      return {
        ...common,
        application_type: 'web',
        client_secret: SECRET,
        grant_types: ['client_credentials'],
        response_types: [],
        redirect_uris: [],
      };
    case 'implicit':
      return {
        ...common,
        token_endpoint_auth_method: 'none',
        grant_types: ['implicit'],
        response_types: ['token', 'id_token token'],
        redirect_uris: [REDIRECT],
      };
    case 'code':
      return {
        ...common,
        token_endpoint_auth_method: 'none',
        grant_types: ['authorization_code'],
        response_types: ['code'],
        redirect_uris: [REDIRECT],
      };
    case 'both':
      return {
        ...common,
        token_endpoint_auth_method: 'none',
        grant_types: ['authorization_code', 'implicit'],
        response_types: ['code', 'token', 'id_token token'],
        redirect_uris: [REDIRECT],
      };
    default:
      throw new Error(`no such flow: ${flow}`);
  }
}

// Without the question that native clients are asked again and again.
function policy() {
  const base = interactionPolicy.base();
  base.get('consent').checks.remove('native_client_prompt');
  return base;
}

function provider(issuer, { clients, audience, ttl, names }) {
  const facts = new Map(clients.map((client) => [client.id, client]));
  const made = new Provider(issuer, {
    clients: clients.map(registered),
    scopes: ['openid', ...SCOPES],
    jwks: { keys: names.flatMap(keysOf) },
    cookies: { keys: [randomBytes(16).toString('hex')] },
    responseTypes: ['code', 'id_token', 'id_token token', 'code id_token', 'none'],
    pkce: { required: () => true },
    clientBasedCORS: () => true,
    interactions: { policy: policy() },
    ttl: { AccessToken: ttl, ClientCredentials: ttl, Grant: 600, Interaction: 600, Session: 600 },
    extraTokenClaims: (_, token) => ({ tenant: facts.get(token.clientId).tenant }),
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => audience,
        useGrantedResource: () => true,
        getResourceServerInfo: (_, resource, client) => ({
          scope: SCOPES.join(' '),
          audience: resource,
          accessTokenFormat: 'jwt',
          accessTokenTTL: ttl,
          jwt: { sign: { alg: facts.get(client.clientId).alg } },
        }),
      },
    },
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    async loadExistingGrant(ctx) {
      const { client, session, provider: own } = ctx.oidc;
      const grant = new own.Grant({ clientId: client.clientId, accountId: session.accountId });
      grant.addOIDCScope(['openid', ...SCOPES].join(' '));
      grant.addResourceScope(audience, SCOPES.join(' '));
      await grant.save();
      return grant;
    },
  });
  // OAuth 2's bare implicit flow, which no release takes by configuration.
  privateOf(made).configuration.responseTypes.push('token');
  return made;
}

class Issuer {
  constructor(settings) {
    this.settings = { audience: 'https://tenure.test', ttl: 600, names: ['first'], ...settings };
  }

  async start() {
    const server = createServer((request, response) => this.handle(request, response));
    await new Promise((done) => server.listen(0, '127.0.0.1', done));
    this.address = `http://127.0.0.1:${server.address().port}`;
    this.use(this.settings.names);
    return this;
  }

  use(names) {
    this.settings.names = names;
    this.provider = provider(this.address, this.settings);
    this.handle = this.provider.callback();
    return {};
  }

  async token({ client, scope }) {
    const authorization = Buffer.from(
      [client, SECRET].map(encodeURIComponent).join(':'),
    ).toString('base64');
    return this.redeem(
      { grant_type: 'client_credentials', scope },
      { authorization: `Basic ${authorization}` },
    );
  }

  async redeem(form, headers = {}) {
    const answer = await fetch(`${this.address}/token`, {
      method: 'POST',
      body: new URLSearchParams(form),
      headers,
    });
    const { access_token: token, ...rest } = await answer.json();
    if (!token) throw new Error(`no token: ${JSON.stringify(rest)}`);
    return { token };
  }

  async signIn({ client, scope }) {
    const byCode = this.settings.clients.find(({ id }) => id === client).flow === 'code';
    const verifier = randomBytes(32).toString('base64url');
    const question = new URLSearchParams({
      client_id: client,
      redirect_uri: REDIRECT,
      response_type: byCode ? 'code' : 'token',
      scope,
      state: 'state',
      ...(byCode && {
        code_challenge: createHash('sha256').update(verifier).digest('base64url'),
        code_challenge_method: 'S256',
      }),
    });
    const end = await new User().walk(`${this.address}/auth?${question}`);
    const said = new URLSearchParams(byCode ? end.search : end.hash.slice(1));
    if (!byCode) {
      if (!said.get('access_token')) throw new Error(`no token: ${end}`);
      return { token: said.get('access_token') };
    }
    return this.redeem({
      grant_type: 'authorization_code',
      client_id: client,
      code: said.get('code'),
      code_verifier: verifier,
      redirect_uri: REDIRECT,
    });
  }
}

// Follows redirects with cookies, and signs in where it is asked to.
class User {
  cookies = new Map();

  async visit(address, form) {
    const answer = await fetch(address, {
      method: form ? 'POST' : 'GET',
      body: form && new URLSearchParams(form),
      redirect: 'manual',
      headers: { cookie: [...this.cookies].map((pair) => pair.join('=')).join('; ') },
    });
    for (const cookie of answer.headers.getSetCookie()) {
      const [name, value] = cookie.split(';')[0].split('=');
      this.cookies.set(name, value);
    }
    return answer;
  }

  async walk(address) {
    let answer = await this.visit(address);
    for (let steps = 0; steps < 10; steps += 1) {
      const next = answer.headers.get('location');
      if (next?.startsWith(REDIRECT)) return new URL(next);
      if (next) {
        address = new URL(next, address).href;
        answer = await this.visit(address);
      } else if (answer.ok && address.includes('/interaction/')) {
        answer = await this.visit(address, { prompt: 'login', login: 'alice', password: 'x' });
      } else {
        throw new Error(`${answer.status} at ${address}: ${await answer.text()}`);
      }
    }
    throw new Error(`no end of redirects at ${address}`);
  }
}

const issuers = [];

async function carryOut(path, said) {
  if (path === '/issuers') {
    const issuer = await new Issuer(said).start();
    issuers.push(issuer);
    return { issuer: issuer.address, at: `/issuers/${issuers.length - 1}` };
  }
  const [, index, act] = path.match(/^\/issuers\/(\d+)\/([a-z-]+)$/) ?? [];
  const issuer = issuers[index];
  switch (issuer && act) {
    case 'keys':
      return issuer.use(said.names);
    case 'token':
      return issuer.token(said);
    case 'sign-in':
      return issuer.signIn(said);
    default:
      throw new Error(`nothing is at ${path}`);
  }
}

const control = createServer(async (request, response) => {
  let body = '';
  for await (const piece of request) body += piece;
  const [status, answer] = await carryOut(request.url, JSON.parse(body)).then(
    (done) => [200, done],
    (error) => [500, { error: String(error.stack) }],
  );
  const text = JSON.stringify(answer);
  response.writeHead(status, { 'content-length': Buffer.byteLength(text) }).end(text);
});
control.listen(0, '127.0.0.1', () => {
  console.log(`http://127.0.0.1:${control.address().port}`);
});
process.stdin.on('end', () => process.exit(0)).resume();
