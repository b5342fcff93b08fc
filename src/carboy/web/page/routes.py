"""The page's addresses. Those that change something are forms' and answer 303, back to a page."""

from __future__ import annotations

from werkzeug import Response

from carboy.web.call import Call, Route
from carboy.web.page import file, folder, jobs, links, place, signing_in, trash


def asset(call: Call, name: str) -> Response:
    """A file that belongs to the pages."""
    return call.web.pages.assets.respond(name)


ASSETS = (Route("/static/<name>", ("GET", "HEAD"), asset),)
ROUTES = (
    Route("/", ("GET",), signing_in.home),
    Route("/login", ("GET",), signing_in.form),
    Route("/login", ("POST",), signing_in.login),
    Route("/logout", ("POST",), signing_in.logout),
    Route("/page/files/<id>", ("GET",), file.get),
    Route("/page/files/<id>/rename", ("POST",), file.rename),
    Route("/page/files/<id>/delete", ("POST",), file.delete),
    Route("/page/files/<id>/link", ("POST",), links.for_file),
    Route("/page/files/<id>/versions/<int:number>", ("POST",), file.restore),
    Route("/page/files/<id>/jobs/<job>/retry", ("POST",), jobs.retry),
    Route("/page/files/<id>/jobs/<job>/cancel", ("POST",), jobs.cancel),
    Route("/page/folders/<space>", ("GET",), place.get),
    Route("/page/folders/<space>/new", ("GET",), folder.new),
    Route("/page/folders/<space>/move", ("POST",), place.move),
    Route("/page/folders/<space>/delete", ("POST",), place.delete),
    Route("/page/folders/<space>/link", ("POST",), links.for_folder),
    Route("/page/ticked/<space>", ("POST",), place.ticked),
    Route("/page/links/<space>", ("GET",), links.listed),
    Route("/page/link/<id>", ("GET",), links.show),
    Route("/page/link/<id>/revoke", ("POST",), links.revoke),
    Route("/page/trash/<space>", ("GET",), trash.get),
    Route("/page/trash/<space>/empty", ("POST",), trash.empty),
    Route("/page/trashed/<id>/restore", ("POST",), trash.restore),
    Route("/page/trashed/<id>/purge", ("POST",), trash.purge),
)
