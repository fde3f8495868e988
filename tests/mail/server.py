"""An SMTP server for tests (aiosmtpd). Each mail that it takes becomes a line of JSON on its standard output.

Arguments: the port on 127.0.0.1, certificate and key ("" both: no STARTTLS). User and password are variables of its
environment, since command lines can be read by everybody. It ends when its standard input does.
"""

import asyncio
import email
import email.policy
import json
import os
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword


def say(**what):
    print(json.dumps(what), flush=True)


class Handler:
    async def handle_DATA(self, server, session, envelope):
        mail = email.message_from_bytes(envelope.original_content, policy=email.policy.default)
        parts = {part.get_content_type(): part.get_content() for part in mail.walk() if not part.is_multipart()}
        say(
            sender=envelope.mail_from,
            recipients=envelope.rcpt_tos,
            encrypted=session.ssl is not None,
            user=session.auth_data.login.decode() if session.auth_data else None,
            headers={name.lower(): str(value) for name, value in mail.items()},
            defects=[str(defect) for part in mail.walk() for defect in part.defects],
            longest=max(len(line) for line in envelope.original_content.split(b"\r\n")),
            parts=parts,
        )
        return "250 OK"


async def main():
    port, certificate, key = sys.argv[1:4]
    user, password = os.environ["SMTP_USER"], os.environ["SMTP_PASSWORD"]
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)

    def authenticate(server, session, envelope, mechanism, data):
        right = isinstance(data, LoginPassword) and (data.login, data.password) == (user.encode(), password.encode())
        say(login=right, encrypted=session.ssl is not None)
        return AuthResult(success=right, handled=False, auth_data=data)

    def smtp():
        return SMTP(
            Handler(),
            hostname="mail.example",
            tls_context=context,
            require_starttls=context is not None,
            authenticator=authenticate,
            auth_required=context is not None,
        )

    loop = asyncio.get_running_loop()
    await loop.create_server(smtp, "127.0.0.1", int(port))
    say(listening=True)
    await loop.run_in_executor(None, sys.stdin.read)


asyncio.run(main())
