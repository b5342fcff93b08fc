"""A club's page: members sign in, show a photo and share papers. Flask-Login, Flask-WTF, Flask-SQLAlchemy and Carboy."""

from __future__ import annotations

from typing import Any

from flask import Flask

from club.extensions import carboy, csrf, database, login
from club.models import Member
from club.views import members


def create_app(**config: Any) -> Flask:
    """The application. Its files and its database lie in the instance folder."""
    app = Flask(__name__, instance_relative_config=True)
    app.config.from_mapping(SQLALCHEMY_DATABASE_URI="sqlite:///club.sqlite3", CARBOY_SPACES={"papers": {"quota": "10 GB"}})
    app.config.from_prefixed_env()
    app.config.from_mapping(config)
    for extension in (database, login, csrf, carboy):
        extension.init_app(app)
    app.register_blueprint(members)

    @app.cli.command("add-member")
    def add_member() -> None:
        """Ask for a name and a password, and make a member."""
        import click

        database.create_all()
        member = Member(name=click.prompt("Name"))
        member.set_password(click.prompt("Password", hide_input=True))
        database.session.add(member)
        database.session.commit()

    return app
