// The pages of the provider that a user sees: sign-in, consent, logout, and those
// of the device flow.
import { form, knows, loginPage, page } from '../harness.mjs';

const consentPage = (client) => page('Consent', `<form method="post">
<p>Let ${encodeURIComponent(client)} use your account?</p>
<button type="submit" name="decision" value="allow">Allow</button>
<button type="submit" name="decision" value="deny">Deny</button>
</form>`);

// consent grants what is missing, and returns the name of the grant.
async function consent(provider, { grantId, prompt: { details }, params, session }) {
  const grant = await provider.Grant.find(grantId)
    ?? new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  grant.addOIDCScope((details.missingOIDCScope ?? []).join(' '));
  for (const [resource, scopes] of Object.entries(details.missingResourceScopes ?? {})) {
    grant.addResourceScope(resource, scopes.join(' '));
  }
  return grant.save();
}

// interact answers for /interaction/…, where the provider sends the browser when
// it needs the user.
export async function interact(provider, ctx) {
  const details = await provider.interactionDetails(ctx.req, ctx.res);
  const wantsLogin = details.prompt.name === 'login';
  const show = () => { ctx.body = wantsLogin ? loginPage() : consentPage(details.params.client_id); };
  if (ctx.method !== 'POST') return show();
  const filled = await form(ctx.req);
  let result;
  if (wantsLogin) {
    if (!knows(filled)) return show();
    result = { login: { accountId: filled.username } };
  } else if (filled.decision !== 'allow') {
    result = { error: 'access_denied', error_description: 'the user said no' };
  } else {
    result = { consent: { grantId: await consent(provider, details) } };
  }
  ctx.respond = false;
  return provider.interactionFinished(ctx.req, ctx.res, result, { mergeWithLastSubmission: true });
}

// deviceFlow is the provider's configuration of the device flow. Each form is
// the provider's own, without a button.
export const deviceFlow = {
  enabled: true,
  userCodeInputSource: (ctx, input) => {
    ctx.body = page('Connect a device', `${input}<button type="submit" form="op.deviceInputForm">Go on</button>`);
  },
  userCodeConfirmSource: (ctx, confirm, client, device, code) => {
    ctx.body = page('Connect a device', `<p>Does your device show ${code}?</p>${confirm}
<button type="submit" form="op.deviceConfirmForm">It does</button>
<button type="submit" form="op.deviceConfirmForm" name="abort" value="yes">No</button>`);
  },
  successSource: (ctx) => { ctx.body = page('Done', '<p>Your device is connected.</p>'); },
};

// rpInitiatedLogout is the provider's configuration of the logout that a program
// asks for. The form is the provider's own, without a button.
export const rpInitiatedLogout = {
  enabled: true,
  logoutSource: (ctx, ask) => {
    ctx.body = page('Log out', `${ask}<button type="submit" form="op.logoutForm" name="logout" value="yes">Log out</button>`);
  },
  postLogoutSuccessSource: (ctx) => { ctx.body = page('Logged out', '<p>See you.</p>'); },
};
