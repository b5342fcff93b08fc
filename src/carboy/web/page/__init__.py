"""Pages for people: whatever a browser asks for as HTML. They work without JavaScript; there is none.

``view`` renders, ``shown`` says how values look to people, ``assets`` serves what belongs to the pages; the others are a page each.
"""
